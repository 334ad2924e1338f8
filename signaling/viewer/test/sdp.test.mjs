// Which streams of an offer the browser takes.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { offeredStreams } from '../sdp.js';

const session = 'v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n';
const video = (mid, port, codec, direction = 'sendonly') =>
  `m=video ${port} UDP/TLS/RTP/SAVPF 96 97\r\na=mid:${mid}\r\na=${direction}\r\na=rtpmap:96 ${codec}/90000\r\na=rtpmap:97 rtx/90000\r\n`;
const audio = 'm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:sound\r\na=sendonly\r\na=rtpmap:111 opus/48000/2\r\n';

test('a stream with port 0 in the answer is rejected, and the others are accepted', () => {
  const offer = session + video('a', 9, 'VP8') + audio + video('b', 9, 'H264');
  const answer = session + video('a', 9, 'VP8', 'recvonly') + audio + video('b', 0, 'H264', 'inactive');
  assert.deepEqual(offeredStreams(offer, answer), [
    { mid: 'a', codecs: ['VP8'], accepted: true },
    { mid: 'b', codecs: ['H264'], accepted: false },
  ]);
});

test('a line without a sending direction is not a stream', () => {
  for (const direction of ['inactive', 'recvonly']) {
    const offer = session + video('a', 9, 'VP8', direction) + video('b', 9, 'VP8', 'sendrecv');
    assert.deepEqual(offeredStreams(offer, offer).map(({ mid }) => mid), ['b'], direction);
  }
});

test('the direction of the session applies to lines without a direction', () => {
  const line = 'm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:a\r\n';
  assert.equal(offeredStreams(`${session}a=inactive\r\n${line}`, session + line).length, 0);
  assert.equal(offeredStreams(session + line, session + line).length, 1);
});

test('the identifier of the answer applies, because the offer may have none', () => {
  const line = 'm=video 9 UDP/TLS/RTP/SAVPF 96\r\na=sendonly\r\n';
  assert.equal(offeredStreams(session + line, `${session}${line}a=mid:0\r\n`)[0].mid, '0');
});

test('a line that the answer lacks is rejected, and malformed text has no streams', () => {
  assert.equal(offeredStreams(session + video('a', 9, 'VP8'), session)[0].accepted, false);
  for (const text of ['', 'm=', 'v=0', 'm=video\r\n', 'nonsense\r\nm=video x y']) {
    for (const stream of offeredStreams(text, text)) assert.equal(stream.accepted, false, text);
  }
});
