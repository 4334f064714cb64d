// What the daemon says, asked for each second while somebody looks.

const interval = 1000;
const patience = 10000;
// As long as the daemon's own memory of it.
const length = 600;

export class Feed {
  // told is called with each state and what went before; lost with why there is none.
  constructor(told, lost) {
    Object.assign(this, { told, lost, history: null, timer: 0, asking: false });
    document.addEventListener('visibilitychange', () => { if (!document.hidden) this.ask(); });
    this.ask();
  }

  async ask() {
    if (this.asking) return;
    this.asking = true;
    clearTimeout(this.timer);
    try {
      const state = await get('api/state');
      await this.remember(state);
      this.told(state, this.history);
    } catch (error) {
      this.lost(error);
    }
    this.asking = false;
    if (!document.hidden) this.timer = setTimeout(() => this.ask(), interval);
  }

  async remember(state) {
    const last = this.history?.times.at(-1);
    if (last === undefined || state.time - last > 3 * interval) {
      this.history = await get('api/history');
      return;
    }
    if (state.time <= last) return;
    append(this.history, state);
  }
}

// append adds to the past what the daemon adds to its own.
function append(history, state) {
  const before = history.times.length;
  const now = Object.fromEntries(state.drops.filter((drop) => drop.rate > 0).map((drop) => [drop.reason, drop.rate]));
  for (const reason of Object.keys(now)) history.drops[reason] ??= Array(before).fill(0);
  history.times.push(state.time);
  history.rx.push(state.underlay.rx);
  history.tx.push(state.underlay.tx);
  for (const [reason, rates] of Object.entries(history.drops)) rates.push(now[reason] ?? 0);
  if (history.times.length > length) for (const list of [history.times, history.rx, history.tx, ...Object.values(history.drops)]) list.shift();
}

async function get(path) {
  const answer = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(patience) }).catch(() => { throw new Error('the daemon does not answer: it may have ended, or the way to it is cut'); });
  if (answer.status === 401) throw new Error('the password is wanted anew: load the page again');
  if (!answer.ok) throw new Error((await answer.text()).trim());
  return answer.json();
}
