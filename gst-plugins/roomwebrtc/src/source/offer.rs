//! Selects the streams of a sender's offer that are received, and the codec of each.

use crate::{
    codec::{Codec, MediaKind},
    sdp::{Description, Line},
    stream_key::StreamKey,
};

/// A stream that is received, and its format.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StreamChoice {
    pub(super) key: StreamKey,
    /// The payload type.
    format: String,
}

/// Returns the choice for each m-line of `offer`, in order; `None` for a line that is not received. Of the formats of a
/// line, the first one is chosen whose codec is in `codecs`, which has the names of the property.
pub(super) fn choices(offer: &Description, codecs: &[String]) -> Vec<Option<StreamChoice>> {
    let (mut videos, mut audios) = (0, 0);
    offer
        .lines()
        .map(|line| {
            let (codec, format) = received_format(line, codecs)?;
            let next = match codec.kind {
                MediaKind::Video => &mut videos,
                MediaKind::Audio => &mut audios,
            };
            let key = StreamKey { kind: codec.kind, index: *next };
            *next += 1;
            Some(StreamChoice { key, format: format.to_owned() })
        })
        .collect()
}

/// Reduces the offer to the streams that are received, with one format each. Every other m-line of media becomes
/// inactive, so that webrtcbin rejects it and the sender does not send it.
pub(super) fn reduce(offer: &mut Description, choices: &[Option<StreamChoice>]) {
    for (m_line, choice) in (0..).zip(choices) {
        if let Some(choice) = choice {
            offer.keep_format(m_line, &choice.format);
        }
    }
    deactivate_others(offer, choices);
}

/// Marks every m-line of media that is not received as inactive. Data channels stay unchanged.
fn deactivate_others(offer: &mut Description, choices: &[Option<StreamChoice>]) {
    let unwanted: Vec<u32> = (0..)
        .zip(offer.lines().zip(choices))
        .filter(|(_, (line, choice))| {
            choice.is_none() && !line.is_rejected() && matches!(line.media(), "audio" | "video")
        })
        .map(|(m_line, _)| m_line)
        .collect();
    for m_line in unwanted {
        offer.deactivate(m_line);
    }
}

fn received_format<'a>(line: Line<'a>, codecs: &[String]) -> Option<(&'static Codec, &'a str)> {
    let is_wanted = |codec: &&'static Codec| {
        codec.kind.as_str() == line.media() && codecs.iter().any(|name| codec.name.eq_ignore_ascii_case(name))
    };
    let codec_of = |encoding: Option<&str>| Codec::of_encoding(encoding?).filter(is_wanted);
    line.sends()
        .then(|| line.formats().find_map(|(format, encoding)| Some((codec_of(encoding)?, format))))
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    fn video(index: u32) -> StreamKey {
        StreamKey { kind: MediaKind::Video, index }
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
    fn streams_are_numbered_by_kind_in_the_order_of_the_offer() {
        let audio = Some(StreamKey { kind: MediaKind::Audio, index: 0 });
        let keys = |codecs: &[&str]| -> Vec<Option<StreamKey>> {
            choices(&offer(), &names(codecs))
                .iter()
                .map(|choice| choice.as_ref().map(|choice| choice.key))
                .collect()
        };
        assert_eq!(keys(&["h264", "vp8", "opus"]), [Some(video(0)), audio, None, Some(video(1)), None]);
        assert_eq!(keys(&["VP8"]), [None, None, None, Some(video(0)), None]);
        assert_eq!(keys(&[]), [None; 5]);
    }

    #[test]
    fn of_the_codecs_that_a_browser_offers_the_first_accepted_one_is_received() {
        let offer = |first: &str| {
            let text = format!(
                "v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF {first} 96 97 102 103 45\r\nc=IN IP4 0.0.0.0\r\na=mid:0\r\n\
                 a=setup:actpass\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
                 a=fingerprint:sha-1 {}\r\na=sendonly\r\na=rtpmap:98 VP9/90000\r\na=rtpmap:96 VP8/90000\r\n\
                 a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:102 H264/90000\r\n\
                 a=fmtp:102 packetization-mode=1\r\na=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n\
                 a=rtpmap:45 AV1/90000\r\n",
                ["00"; 20].join(":")
            );
            gst::init().expect("GStreamer");
            Description::offer(&text).expect("an offer")
        };
        for (codecs, expected) in [
            (&["h264"][..], &[("102", Some("H264")), ("103", Some("rtx"))]),
            (&["h264", "vp8"], &[("96", Some("VP8")), ("97", Some("rtx"))]),
        ] {
            let mut offer = offer("98");
            let choices = choices(&offer, &names(codecs));
            reduce(&mut offer, &choices);
            let formats: Vec<_> = offer.lines().flat_map(Line::formats).collect();
            assert_eq!(formats, expected, "{codecs:?}");
        }
        assert_eq!(choices(&offer("98"), &names(&["opus"])), [None]);
    }

    #[test]
    fn lines_that_are_not_received_become_inactive_and_data_channels_stay() {
        let mut offer = offer();
        let choices = choices(&offer, &names(&["vp8"]));
        reduce(&mut offer, &choices);
        let sends: Vec<bool> = offer.lines().map(Line::sends).collect();
        assert_eq!(sends, [false, false, true, true, false]);
    }
}
