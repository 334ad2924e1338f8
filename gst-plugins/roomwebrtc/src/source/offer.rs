//! The streams of a sender's offer, and which of them are received.

use crate::{
    codec::{Codec, MediaKind},
    sdp::{Description, Line},
    stream_key::StreamKey,
};

/// The stream that each m-line of `offer` becomes, in order; `None` for a line that is not received. `codecs` has the
/// names of the property.
pub(super) fn streams(offer: &Description, codecs: &[String]) -> Vec<Option<StreamKey>> {
    let (mut videos, mut audios) = (0, 0);
    offer
        .lines()
        .map(|line| {
            let kind = received_kind(line, codecs)?;
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

/// Marks every m-line that becomes no stream as inactive. Data channels stay as they are.
pub(super) fn deactivate_others(offer: &mut Description, streams: &[Option<StreamKey>]) {
    let unwanted: Vec<u32> = (0..)
        .zip(offer.lines().zip(streams))
        .filter(|(_, (line, stream))| {
            stream.is_none() && !line.is_rejected() && matches!(line.media(), "audio" | "video")
        })
        .map(|(m_line, _)| m_line)
        .collect();
    for m_line in unwanted {
        offer.deactivate(m_line);
    }
}

fn received_kind(line: Line<'_>, codecs: &[String]) -> Option<MediaKind> {
    let kind = [MediaKind::Video, MediaKind::Audio].into_iter().find(|kind| kind.as_str() == line.media())?;
    let wanted =
        |codec: &Codec| codec.kind == kind && codecs.iter().any(|name| codec.name.eq_ignore_ascii_case(name));
    (line.sends() && line.encodings().filter_map(Codec::of_encoding).any(wanted)).then_some(kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn video(index: u32) -> Option<StreamKey> {
        Some(StreamKey { kind: MediaKind::Video, index })
    }

    fn offer() -> Description {
        gst::init().expect("GStreamer");
        let line = |media: &str, at: u32, rest: &str| {
            format!(
                "m={media} 96\r\nc=IN IP4 0.0.0.0\r\na=mid:{at}\r\na=setup:actpass\r\na=ice-ufrag:abcd\r\n\
                 a=ice-pwd:abcdefghijklmnopqrstuvwx\r\na=fingerprint:sha-1 {}\r\n{rest}",
                ["00"; 20].join(":")
            )
        };
        let lines = [
            line("video 9 UDP/TLS/RTP/SAVPF", 0, "a=rtpmap:96 H264/90000\r\na=sendonly\r\n"),
            line("audio 9 UDP/TLS/RTP/SAVPF", 1, "a=rtpmap:96 OPUS/48000/2\r\n"),
            line("application 9 UDP/DTLS/SCTP", 2, "a=sctp-port:5000\r\n"),
            line("video 0 UDP/TLS/RTP/SAVPF", 3, "a=bundle-only\r\na=rtpmap:96 VP8/90000\r\n"),
            line("video 9 UDP/TLS/RTP/SAVPF", 4, "a=rtpmap:96 H264/90000\r\na=recvonly\r\n"),
        ];
        Description::offer(&format!("v=0\r\n{}", lines.concat())).expect("an offer")
    }

    #[test]
    fn streams_are_counted_by_kind_in_the_order_of_the_offer() {
        let audio = Some(StreamKey { kind: MediaKind::Audio, index: 0 });
        assert_eq!(
            streams(&offer(), &names(&["h264", "vp8", "opus"])),
            [video(0), audio, None, video(1), None]
        );
        assert_eq!(streams(&offer(), &names(&["VP8"])), [None, None, None, video(0), None]);
        assert_eq!(streams(&offer(), &[]), [None; 5]);
    }

    #[test]
    fn lines_that_become_no_stream_are_inactive_and_data_channels_stay() {
        let mut offer = offer();
        deactivate_others(&mut offer, &[None, None, None, video(0), None]);
        let sends: Vec<bool> = offer.lines().map(Line::sends).collect();
        assert_eq!(sends, [false, false, true, true, false]);
    }
}
