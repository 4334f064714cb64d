// A script that does not come, as where the network changes meanwhile, leaves the page empty: this one stands alone, so that it can say so.
addEventListener('error', ({ target }) => {
  if (target.type === 'module') document.getElementById('lost').textContent = 'A part of this page did not come: load it again.';
}, true);
