// Put into the viewer's page by browser.py: watches every <video>, reads each presented frame back through a canvas,
// and keeps what barcode.py drew there for `bed.take()`.
(() => {
  const COLUMNS = 16, ROWS = 5, THRESHOLD = 125, TICKS = 2 ** 32;
  const events = [], seen = new WeakMap();
  let videos = 0;

  function crc32(bytes) {
    let crc = 0xffffffff;
    for (const byte of bytes) {
      crc ^= byte;
      for (let i = 0; i < 8; i++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
    }
    return (crc ^ 0xffffffff) >>> 0;
  }

  // {ticks, counter, source} or null.
  function read(context, width, height) {
    const cell = Math.floor(width / COLUMNS);
    if (cell < 4 || height < ROWS * cell) return null;
    const pixels = context.getImageData(0, 0, COLUMNS * cell, ROWS * cell).data;
    const bytes = [];
    for (let row = 0; row < ROWS; row++) {
      for (let half = 0; half < 2; half++) {
        let byte = 0;
        for (let i = 0; i < 8; i++) {
          const x = (half * 8 + i) * cell + (cell >> 1), y = row * cell + (cell >> 1);
          byte = byte * 2 + (pixels[(y * COLUMNS * cell + x) * 4 + 1] > THRESHOLD ? 1 : 0);
        }
        bytes.push(byte);
      }
    }
    if ((crc32(bytes.slice(0, 8)) & 0xffff) !== bytes[8] * 256 + bytes[9]) return null;
    const number = list => list.reduce((sum, byte) => sum * 256 + byte, 0);
    return { ticks: number(bytes.slice(0, 4)), counter: number(bytes.slice(4, 7)), source: bytes[7] };
  }

  function watch(video) {
    const name = `video_${videos++}`;
    const canvas = document.createElement('canvas');
    const context = canvas.getContext('2d', { willReadFrequently: true });
    seen.set(video, name);
    video.requestVideoFrameCallback(function frame() {
      const wall = performance.timeOrigin + performance.now();
      const { videoWidth: width, videoHeight: height } = video;
      if (width && height) {
        if (canvas.width !== width || canvas.height !== height) { canvas.width = width; canvas.height = height; }
        context.drawImage(video, 0, 0);
        const mark = read(context, width, height);
        const event = { event: 'frame', pad: name, t: wall / 1000, width, height, decoded: video.getVideoPlaybackQuality().totalVideoFrames };
        if (mark) {
          const age = ((Math.floor(wall * 10) - mark.ticks) % TICKS + TICKS) % TICKS;
          Object.assign(event, mark, { latency_ms: (age > TICKS / 2 ? age - TICKS : age) / 10 });
        }
        events.push(event);
      }
      video.requestVideoFrameCallback(frame);
    });
  }

  addEventListener('DOMContentLoaded', () => setInterval(() => {
    for (const video of document.querySelectorAll('video')) if (!seen.has(video)) watch(video);
  }, 50));
  window.bed = { take: () => events.splice(0) };
})();
