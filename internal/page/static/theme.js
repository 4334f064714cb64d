// Before anything is painted: the theme that was chosen here last, if one was.
(() => {
  try {
    document.documentElement.dataset.theme = localStorage.getItem('theme') || '';
  } catch {
    // A browser that keeps nothing has that of the system.
  }
})();
