//! What a sender offers, and what of it is taken: the m-lines of an offer, read without touching webrtcbin.

use crate::codec::{Codec, MediaKind};
pub(super) use crate::stream_key::StreamKey;

/// For each m-line of `sdp`, in order, the stream that it becomes; `None` for what is not taken. `codecs` are names as
/// the property has them.
pub(super) fn streams(sdp: &str, codecs: &[String]) -> Vec<Option<StreamKey>> {
    let (mut videos, mut audios) = (0, 0);
    sdp.split("\nm=")
        .skip(1)
        .map(|section| {
            let kind = taken_kind(section, codecs)?;
            let next = match kind {
                MediaKind::Video => &mut videos,
                MediaKind::Audio => &mut audios,
            };
            let key = StreamKey { kind, index: *next };
            *next += 1;
            Some(key)
        })
        .collect()
}

/// `sdp` with each m-line made inactive that becomes no stream, as if the sender had offered it so: then webrtcbin
/// answers it likewise, and it isn't sent. Data channels stay as they are.
pub(super) fn without_refused(sdp: &str, streams: &[Option<StreamKey>]) -> String {
    let mut sections = sdp.split("\nm=");
    let mut out = sections.next().unwrap_or_default().to_owned();
    for (section, stream) in sections.zip(streams) {
        out.push_str("\nm=");
        if stream.is_some() || section.starts_with("application") {
            out.push_str(section);
            continue;
        }
        let is_direction =
            |line: &str| matches!(line.trim_end(), "a=sendonly" | "a=sendrecv" | "a=recvonly" | "a=inactive");
        section.split_inclusive('\n').filter(|line| !is_direction(line)).for_each(|line| out.push_str(line));
        out.push_str(if section.ends_with('\n') { "a=inactive\r\n" } else { "\na=inactive\r" });
    }
    out
}

fn taken_kind(section: &str, codecs: &[String]) -> Option<MediaKind> {
    let kind = match section.split_whitespace().next()? {
        "video" => MediaKind::Video,
        "audio" => MediaKind::Audio,
        _ => return None,
    };
    let sends = !section.lines().any(|line| matches!(line.trim_end(), "a=recvonly" | "a=inactive"));
    let wanted =
        |codec: &Codec| codec.kind == kind && codecs.iter().any(|name| codec.name.eq_ignore_ascii_case(name));
    (sends && encodings(section).filter_map(Codec::of_encoding).any(wanted)).then_some(kind)
}

/// The encoding names of the `a=rtpmap` lines: `a=rtpmap:96 H264/90000`.
fn encodings(section: &str) -> impl Iterator<Item = &str> {
    section
        .lines()
        .filter_map(|line| line.strip_prefix("a=rtpmap:")?.split_once(' '))
        .filter_map(|(_, name)| name.split('/').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    const FIRST: Option<StreamKey> = Some(StreamKey { kind: MediaKind::Video, index: 0 });
    const SECOND: Option<StreamKey> = Some(StreamKey { kind: MediaKind::Video, index: 1 });

    const OFFER: &str = "v=0\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\na=rtpmap:96 H264/90000\r\na=rtpmap:97 rtx/90000\r\na=sendonly\r\n\
        m=audio 9 UDP/TLS/RTP/SAVPF 98\r\na=rtpmap:98 OPUS/48000/2\r\n\
        m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 99\r\na=rtpmap:99 VP8/90000\r\n\
        m=video 9 UDP/TLS/RTP/SAVPF 100\r\na=rtpmap:100 H264/90000\r\na=recvonly\r\n";

    #[test]
    fn streams_are_counted_by_kind_in_the_order_of_the_offer() {
        let audio = Some(StreamKey { kind: MediaKind::Audio, index: 0 });
        assert_eq!(streams(OFFER, &names(&["h264", "vp8", "opus"])), [FIRST, audio, None, SECOND, None]);
        assert_eq!(streams(OFFER, &names(&["VP8"])), [None, None, None, FIRST, None]);
        assert_eq!(streams(OFFER, &[]), [None; 5]);
        assert_eq!(streams("", &names(&["h264"])), []);
    }

    #[test]
    fn what_becomes_no_stream_is_made_inactive() {
        let sdp = "v=0\r\nm=video 9 X 96\r\na=sendonly\r\nm=video 9 X 97\r\na=sendonly\r\na=mid:1\r\n\
            m=application 9 X webrtc-datachannel\r\nm=audio 9 X 98\r\n";
        assert_eq!(
            without_refused(sdp, &[FIRST, None, None, None]),
            "v=0\r\nm=video 9 X 96\r\na=sendonly\r\nm=video 9 X 97\r\na=mid:1\r\na=inactive\r\n\
             m=application 9 X webrtc-datachannel\r\nm=audio 9 X 98\r\na=inactive\r\n"
        );
        assert_eq!(without_refused(sdp, &[FIRST, SECOND, None, FIRST]), sdp);
        assert_eq!(without_refused("v=0\r\n", &[]), "v=0\r\n");
    }
}
