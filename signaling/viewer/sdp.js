// Reads session descriptions: which streams a sender offers, and which of them this browser accepts.

/** Formats that only repair other streams. */
const NO_CODEC = new Set(['rtx', 'red', 'ulpfec', 'flexfec-03']);

/**
 * The video streams of an offer, in their order: [{mid, codecs, accepted}]. `mid` is the identifier in the answer, `codecs`
 * are the names of the codecs offered, and `accepted` is false if the answer rejects the stream.
 */
export function offeredStreams(offer, answer) {
  const answers = sections(answer);
  return sections(offer)
    .map((section, index) => ({ section, answer: answers[index] }))
    .filter(({ section }) => section.kind === 'video' && section.sends)
    .map(({ section, answer }) => ({
      mid: answer?.mid ?? section.mid,
      codecs: section.codecs,
      accepted: Boolean(answer?.port),
    }));
}

function sections(sdp) {
  const [session, ...media] = sdp.split(/\r?\n(?=m=)/);
  const inherited = direction(session) ?? 'sendrecv';
  return media.map((text) => {
    const [, kind, port] = /^m=(\S+) (\d+)/.exec(text) ?? [];
    const names = [...text.matchAll(/^a=rtpmap:\d+ ([^/\s]+)/gm)].map(([, name]) => name);
    return {
      kind,
      port: Number(port),
      mid: /^a=mid:(\S+)/m.exec(text)?.[1],
      sends: (direction(text) ?? inherited).startsWith('send'),
      codecs: [...new Set(names.filter((name) => !NO_CODEC.has(name.toLowerCase())))],
    };
  });
}

function direction(text) {
  return /^a=(sendrecv|sendonly|recvonly|inactive)\s*$/m.exec(text)?.[1];
}
