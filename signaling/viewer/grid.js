// What is seen: one tile for each video track of each sender. Names of senders come from the network and are only
// ever set as text.

const WORDS = {
  connecting: 'connecting',
  live: 'live',
  stalled: 'no picture',
  interrupted: 'connection lost, looking for it',
  failed: 'failed',
  waiting: 'restarting',
  ended: 'ended',
};
const GAP = 12;
const ASPECT = 16 / 9;

/** How many columns make `count` tiles of 16:9 largest in a space of that size; at least 1. */
export function bestColumns(count, width, height, gap = GAP) {
  let best = { columns: 1, area: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const wide = (width - gap * (columns - 1)) / columns;
    const tall = (height - gap * (rows - 1)) / rows;
    const used = Math.min(wide, tall * ASPECT);
    if (used > best.area) best = { columns, area: used };
  }
  // Never so small that nothing can be seen: rather let the page scroll.
  const most = Math.max(1, Math.floor((width + gap) / (240 + gap)));
  return Math.min(best.columns, most);
}

export class Grid {
  #root;
  /** Tiles by sender, in the order of its tracks. */
  #tiles = new Map();

  constructor(root) {
    this.#root = root;
    new ResizeObserver(() => this.#layout()).observe(root);
  }

  /** Shows that something is to come from this sender, where nothing of it is seen yet. */
  expect(sender) {
    if (!this.#tiles.has(sender)) this.#resize(sender, 1);
  }

  /** Shows these tracks of a sender; what was seen of it stays until the new picture is there. */
  show(sender, tracks) {
    this.#resize(sender, Math.max(1, tracks.length));
    const tiles = this.#tiles.get(sender);
    tracks.forEach((track, i) => tiles[i].play(track));
  }

  /** Marks all tiles of a sender: a state of peer.js, or 'waiting' for an offer that is to come. */
  mark(sender, state, detail) {
    for (const tile of this.#tiles.get(sender) ?? []) tile.mark(state, detail);
  }

  /** Keeps the last picture of a sender whose connection is about to be closed. */
  freeze(sender) {
    for (const tile of this.#tiles.get(sender) ?? []) tile.freeze();
  }

  remove(sender) {
    this.#resize(sender, 0);
  }

  #resize(sender, count) {
    const tiles = this.#tiles.get(sender) ?? [];
    while (tiles.length > count) tiles.pop().remove();
    while (tiles.length < count) {
      const tile = new Tile(sender, tiles.length);
      const last = tiles.at(-1);
      if (last) last.element.after(tile.element);
      else this.#root.append(tile.element);
      tiles.push(tile);
    }
    if (count) this.#tiles.set(sender, tiles);
    else this.#tiles.delete(sender);
    this.#layout();
  }

  #layout() {
    const [width, height] = [this.#root.clientWidth - 2 * GAP, this.#root.clientHeight - 2 * GAP];
    const columns = bestColumns(this.#root.childElementCount, width, height);
    const wide = (width - GAP * (columns - 1)) / columns;
    this.#root.style.setProperty('--columns', columns);
    // Rows no taller than a picture needs, and rather a page that scrolls than much lower ones. A single tile has the
    // page for itself.
    const tall = wide / ASPECT;
    const rows = this.#root.childElementCount > 1 ? `minmax(${tall * 0.8}px, ${tall}px)` : 'minmax(0, 1fr)';
    this.#root.style.gridAutoRows = rows;
  }
}

class Tile {
  #video = null;
  /** The last picture of a session that is over, until the next one has a picture. */
  #still = null;
  #state;
  #size;

  constructor(sender, index) {
    this.element = make('article', 'tile');
    this.element.dataset.sender = sender;
    this.element.dataset.track = index;
    const name = make('span', 'name');
    name.textContent = index ? `${sender} · ${index + 1}` : sender;
    name.title = sender;
    this.#size = make('span', 'size');
    this.#state = make('span', 'state');
    const caption = make('footer', 'caption');
    caption.append(name, this.#size, this.#state);
    this.element.append(caption);
    this.mark('connecting', '');
  }

  mark(state, detail) {
    this.element.dataset.state = state;
    this.#state.textContent = detail || WORDS[state] || state;
  }

  /** Plays the track in a new video element, over the still picture of what was before. */
  play(track) {
    this.freeze();
    const video = make('video', 'picture');
    video.autoplay = true;
    video.muted = true;
    video.playsInline = true;
    video.srcObject = new MediaStream([track]);
    video.addEventListener('resize', () => {
      this.#size.textContent = `${video.videoWidth}×${video.videoHeight}`;
    });
    video.addEventListener('playing', () => this.#video === video && this.#dropStill(), { once: true });
    this.#video = video;
    this.element.querySelector('.caption').before(video);
    video.play().catch((error) => {
      if (error.name === 'NotAllowedError') video.controls = true; // The user may start it by hand.
    });
  }

  /** Turns what is seen into a still picture: a video element goes black with the end of its connection. */
  freeze() {
    const video = this.#video;
    if (!video) return;
    this.#video = null;
    if (video.videoWidth) {
      const still = make('canvas', 'picture');
      still.width = video.videoWidth;
      still.height = video.videoHeight;
      still.getContext('2d').drawImage(video, 0, 0);
      this.#dropStill();
      this.#still = still;
      video.before(still);
    }
    release(video);
  }

  remove() {
    if (this.#video) release(this.#video);
    this.element.remove();
  }

  #dropStill() {
    this.#still?.remove();
    this.#still = null;
  }
}

function release(video) {
  video.srcObject = null;
  video.remove();
}

function make(tag, className) {
  const element = document.createElement(tag);
  element.className = className;
  return element;
}
