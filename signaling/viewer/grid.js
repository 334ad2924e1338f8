// The tiles: one for each video stream of each sender. Ids of senders are untrusted, so they are inserted as text only.

const LABELS = {
  connecting: 'connecting',
  live: 'live',
  stalled: 'no video',
  interrupted: 'connection lost, reconnecting',
  failed: 'failed',
  waiting: 'restarting',
  ended: 'ended',
};
/** While the session is in one of these states, the tile of a refused stream shows the reason instead. */
const UNDER_WAY = new Set(['connecting', 'live', 'stalled', 'interrupted']);
const GAP = 12;
const ASPECT = 16 / 9;

/** The number of columns, at least 1, for which `count` tiles of 16:9 are largest in a space of this size. */
export function bestColumns(count, width, height, gap = GAP) {
  let best = { columns: 1, area: 0 };
  for (let columns = 1; columns <= count; columns += 1) {
    const rows = Math.ceil(count / columns);
    const wide = (width - gap * (columns - 1)) / columns;
    const tall = (height - gap * (rows - 1)) / rows;
    const used = Math.min(wide, tall * ASPECT);
    if (used > best.area) best = { columns, area: used };
  }
  // Below a width of 240 pixels, tiles are too small to be useful, so the page scrolls instead.
  const most = Math.max(1, Math.floor((width + gap) / (240 + gap)));
  return Math.min(best.columns, most);
}

export class Grid {
  #root;
  /** Tiles by sender, in the order of its streams. */
  #tiles = new Map();

  constructor(root) {
    this.#root = root;
    new ResizeObserver(() => this.#layout()).observe(root);
  }

  /** Ensures that the sender has a tile before its streams are known. */
  expect(sender) {
    if (!this.#tiles.has(sender)) this.#resize(sender, 1);
  }

  /**
   * Shows the streams of a sender: {track}, or {refusal} for one that the browser can't show. The last picture stays
   * until the new one arrives.
   */
  show(sender, streams) {
    this.#resize(sender, Math.max(1, streams.length));
    const tiles = this.#tiles.get(sender);
    streams.forEach(({ track, refusal }, i) => (track ? tiles[i].play(track) : tiles[i].refuse(refusal)));
  }

  /** Marks all tiles of a sender with a state of peer.js, with 'waiting' (for an offer) or with 'ended'. */
  mark(sender, state, detail) {
    for (const tile of this.#tiles.get(sender) ?? []) tile.mark(state, detail);
  }

  /** Keeps the last picture of a sender whose connection is about to close. */
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
    // Rows are between 80 % and 100 % as tall as a picture; if they do not fit, the page scrolls. A single tile fills the page.
    const tall = wide / ASPECT;
    const rows = this.#root.childElementCount > 1 ? `minmax(${tall * 0.8}px, ${tall}px)` : 'minmax(0, 1fr)';
    this.#root.style.gridAutoRows = rows;
  }
}

class Tile {
  #video = null;
  /** The last picture of the previous session, until the current session has one. */
  #still = null;
  #state;
  #size;
  #refusal = '';

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
    const refused = this.#refusal && UNDER_WAY.has(state);
    this.element.dataset.state = refused ? 'failed' : state;
    this.#state.textContent = (refused ? this.#refusal : detail) || LABELS[state] || state;
    this.#state.title = this.#state.textContent;
  }

  /** Shows why the browser cannot play this stream, regardless of the other streams. */
  refuse(refusal) {
    this.freeze();
    this.#refusal = refusal;
    this.mark('connecting', '');
  }

  /** Plays the track in a new video element, above the last picture of the previous session. */
  play(track) {
    this.freeze();
    this.#refusal = '';
    this.mark('connecting', '');
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
      if (error.name === 'NotAllowedError') video.controls = true; // The browser blocks autoplay, so the user has to start it.
    });
  }

  /** Replaces the video by its last picture, because a video element turns black when its connection closes. */
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
