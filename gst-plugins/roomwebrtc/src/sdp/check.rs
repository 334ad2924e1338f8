//! Validates session descriptions from the network before they reach webrtcbin, because webrtcbin 1.22 asserts on some
//! malformed ones, which ends the process.

use super::{Description, Line, fingerprint};
use gst_sdp::SDPMessage;
use std::collections::BTreeSet;

/// The maximum length of a line. `gst_sdp` truncates some values at 8 KiB, possibly within a character.
const MAX_LINE: usize = 4096;
/// The maximum number of m-lines. Browsers offer one for each stream.
const MAX_LINES: u32 = 64;
/// Parameters of `a=fmtp` become fields of caps; these would replace fields of another type.
const RESERVED_PARAMETERS: [&str; 7] =
    ["media", "payload", "clock-rate", "encoding-name", "encoding-params", "ssrc", "npt-start"];
/// Encodings that carry no media of their own.
const REPAIR: [&str; 4] = ["rtx", "red", "ulpfec", "flexfec-03"];

/// Why a description is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SdpError {
    /// It cannot be parsed at all.
    #[error("the session description cannot be parsed: {0}")]
    Unreadable(&'static str),
    /// An m-line lacks an attribute.
    #[error("m-line {line} of the session description has no {what}")]
    Missing {
        /// The index of the m-line.
        line: usize,
        /// What is missing.
        what: &'static str,
    },
    /// An attribute has an unusable value.
    #[error("m-line {line} of the session description has {what} {value:?}, expected {expected}")]
    Invalid {
        /// The index of the m-line.
        line: usize,
        /// The attribute.
        what: &'static str,
        /// The first characters of its value.
        value: String,
        /// The expected value.
        expected: &'static str,
    },
    /// An answer does not fit the offer.
    #[error("the answer does not fit the offer: {0}")]
    Answer(String),
}

use SdpError::{Answer, Missing, Unreadable};

fn invalid(line: usize, what: &'static str, value: &str, expected: &'static str) -> SdpError {
    SdpError::Invalid { line, what, value: value.chars().take(60).collect(), expected }
}

/// Parses `text`, but refuses texts that `gst_sdp` does not parse correctly.
pub(super) fn parse(text: &str) -> Result<Description, SdpError> {
    if text.is_empty() {
        return Err(Unreadable("it is empty"));
    }
    if text.contains('\0') || text.lines().any(|line| line.len() > MAX_LINE) {
        return Err(Unreadable("it has a NUL or a line of more than 4096 bytes"));
    }
    let message =
        SDPMessage::parse_buffer(text.as_bytes()).map_err(|_| Unreadable("it does not follow RFC 8866"))?;
    match message.medias_len() {
        0 => Err(Unreadable("it has no m-line")),
        1..=MAX_LINES => Ok(Description(message)),
        _ => Err(Unreadable("it has more than 64 m-lines")),
    }
}

/// Checks an offer.
pub(super) fn offer(sdp: &Description) -> Result<(), SdpError> {
    check_session(sdp)?;
    for (at, line) in sdp.lines().enumerate().filter(|(_, line)| !line.is_rejected()) {
        check_line(sdp, at, line, &["actpass", "active", "passive"])?;
    }
    Ok(())
}

/// Checks an answer to `offer`.
pub(super) fn answer(sdp: &Description, offer: &Description) -> Result<(), SdpError> {
    check_session(sdp)?;
    if sdp.len() != offer.len() {
        return Err(Answer(format!("it has {} m-lines, the offer had {}", sdp.len(), offer.len())));
    }
    for (at, (line, offered)) in sdp.lines().zip(offer.lines()).enumerate() {
        if line.media() != offered.media() {
            return Err(invalid(at, "the media", line.media(), "the media of the offer's m-line"));
        }
        if line.0.port() == 0 {
            continue;
        }
        check_line(sdp, at, line, &["active", "passive"])?;
        if line.mid().is_some() && line.mid() != offered.mid() {
            return Err(invalid(
                at,
                "a=mid",
                line.mid().unwrap_or_default(),
                "the a=mid of the offer's m-line",
            ));
        }
        if is_rtp(line) && !takes_a_format(line, offered) {
            return Err(Answer(format!("m-line {at} accepts none of the offered codecs")));
        }
    }
    check_bundle_of_answer(sdp)
}

/// The lines in use share one transport, that of the group's first line (RFC 8843, section 7.3).
fn check_bundle_of_answer(sdp: &Description) -> Result<(), SdpError> {
    let bundle = bundle(sdp);
    let used = sdp.lines().filter(|line| !line.is_rejected());
    for (at, line) in used.enumerate() {
        let place = line.mid().and_then(|mid| bundle.iter().position(|entry| *entry == mid));
        let fits = match place {
            Some(place) => (place == 0) == (at == 0),
            None => at == 0 && bundle.is_empty(),
        };
        if !fits {
            return Err(Answer(
                "a=group:BUNDLE has to list the m-lines in use, in their order: the offer is bundled".into(),
            ));
        }
    }
    Ok(())
}

fn check_session(sdp: &Description) -> Result<(), SdpError> {
    if sdp.0.version() != Some("0") {
        return Err(Unreadable("its version is not 0 (v=0)"));
    }
    let mut mids = BTreeSet::new();
    for (at, line) in sdp.lines().enumerate() {
        if line.0.attributes().filter(|attribute| attribute.key() == "mid").count() > 1 {
            return Err(invalid(at, "several", "a=mid", "one"));
        }
        if let Some(mid) = line.mid()
            && (!is_token(mid, 1..=64) || !mids.insert(mid))
        {
            return Err(invalid(at, "a=mid", mid, "a short token that no other m-line has"));
        }
    }
    let bundle = bundle(sdp);
    let distinct: BTreeSet<&str> = bundle.iter().copied().collect();
    if distinct.len() != bundle.len() || !distinct.is_subset(&mids) {
        return Err(Unreadable("a=group:BUNDLE names an m-line twice, or one that is not there"));
    }
    Ok(())
}

/// The mids of the session's BUNDLE group.
fn bundle(sdp: &Description) -> Vec<&str> {
    let groups = sdp.0.attributes().filter(|attribute| attribute.key() == "group");
    let mut groups = groups.filter_map(|group| group.value()?.strip_prefix("BUNDLE"));
    groups.next().map(|mids| mids.split_whitespace().collect()).unwrap_or_default()
}

fn check_line(sdp: &Description, at: usize, line: Line<'_>, setups: &[&str]) -> Result<(), SdpError> {
    if line.0.port() > u32::from(u16::MAX) {
        return Err(invalid(at, "the port", &line.0.port().to_string(), "0 to 65535"));
    }
    let credential = |what: &'static str, name, length| {
        let value = one(sdp, at, line, name)?.ok_or(Missing { line: at, what })?;
        if is_token(value, length) {
            Ok(())
        } else {
            Err(invalid(at, what, value, "ice-chars of that length"))
        }
    };
    // The lengths are those of RFC 8839, section 5.4; libnice's buffers hold as many.
    credential("a=ice-ufrag", "ice-ufrag", 4..=256)?;
    credential("a=ice-pwd", "ice-pwd", 22..=256)?;
    let setup = one(sdp, at, line, "setup")?.ok_or(Missing { line: at, what: "a=setup" })?;
    if !setups.contains(&setup) {
        return Err(invalid(at, "a=setup", setup, "active or passive (an offer: actpass)"));
    }
    fingerprint::check(sdp, line).map_err(|value| match value {
        Some(value) => invalid(at, "a=fingerprint", value, "a hash function and its bytes in hexadecimal"),
        None => Missing { line: at, what: "a=fingerprint of SHA-1 or SHA-2" },
    })?;
    match line.media() {
        "audio" | "video" => check_rtp(at, line),
        "application" => check_data(at, line),
        other => Err(invalid(at, "the media", other, "audio, video or application")),
    }
}

fn check_rtp(at: usize, line: Line<'_>) -> Result<(), SdpError> {
    let proto = line.0.proto().unwrap_or_default();
    if !proto.contains("RTP/SAVP") {
        return Err(invalid(at, "the protocol", proto, "UDP/TLS/RTP/SAVPF"));
    }
    // `gst_sdp` reads a line without formats as one with an empty format.
    if line.formats().all(|(format, _)| format.is_empty()) {
        return Err(Missing { line: at, what: "payload type" });
    }
    for (format, _) in line.formats() {
        if !is_payload_type(format) {
            return Err(invalid(at, "the payload type", format, "0 to 127"));
        }
    }
    for value in line.values("rtpmap") {
        check_rtpmap(at, value)?;
    }
    for value in line.values("fmtp") {
        check_fmtp(at, line, value)?;
    }
    for value in line.values("ssrc") {
        let number = value.split(' ').next().unwrap_or_default();
        if number.parse::<u32>().is_err() {
            return Err(invalid(at, "a=ssrc", value, "a number of 32 bits first"));
        }
    }
    Ok(())
}

fn check_rtpmap(at: usize, value: &str) -> Result<(), SdpError> {
    let expected = "PAYLOAD-TYPE ENCODING/CLOCK-RATE";
    let wrong = || invalid(at, "a=rtpmap", value, expected);
    let (format, encoding) = value.split_once(' ').ok_or_else(wrong)?;
    let mut parts = encoding.trim_start().split('/');
    let (name, rate) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let rate_fits = rate.trim_end().parse::<i32>().is_ok_and(|rate| rate > 0);
    if is_payload_type(format) && is_token(name, 1..=64) && rate_fits { Ok(()) } else { Err(wrong()) }
}

fn check_fmtp(at: usize, line: Line<'_>, value: &str) -> Result<(), SdpError> {
    let wrong = |expected| invalid(at, "a=fmtp", value, expected);
    let (format, parameters) = value.split_once(' ').ok_or_else(|| wrong("PAYLOAD-TYPE PARAMETERS"))?;
    if !is_payload_type(format) {
        return Err(wrong("a payload type of 0 to 127"));
    }
    for (name, value) in
        parameters.split(';').map(|parameter| parameter.split_once('=').unwrap_or((parameter, "")))
    {
        let name = name.trim().to_ascii_lowercase();
        if RESERVED_PARAMETERS.contains(&name.as_str()) {
            return Err(wrong("parameters of the codec only"));
        }
        let repairs =
            name == "apt" && line.encoding_of(format).is_some_and(|name| name.eq_ignore_ascii_case("rtx"));
        if repairs && !line.formats().any(|(listed, _)| listed == value.trim() && listed != format) {
            return Err(wrong("apt to be another payload type of the m-line"));
        }
    }
    Ok(())
}

fn check_data(at: usize, line: Line<'_>) -> Result<(), SdpError> {
    let proto = line.0.proto().unwrap_or_default();
    if !proto.contains("DTLS/SCTP") {
        return Err(invalid(at, "the protocol", proto, "UDP/DTLS/SCTP"));
    }
    // Before RFC 8841, endpoints wrote `a=sctpmap:5000 webrtc-datachannel 1024`.
    let port = line.values("sctp-port").next().or_else(|| line.values("sctpmap").next()?.split(' ').next());
    let port = port.ok_or(Missing { line: at, what: "a=sctp-port" })?;
    match port.parse::<u16>() {
        Ok(1..) => Ok(()),
        _ => Err(invalid(at, "a=sctp-port", port, "1 to 65535")),
    }
}

/// Whether an answered line has a codec of the offered one, under the payload type that the offer gave it.
fn takes_a_format(line: Line<'_>, offered: Line<'_>) -> bool {
    let is_media = |name: &str| !REPAIR.iter().any(|repair| repair.eq_ignore_ascii_case(name));
    offered.formats().any(|(format, encoding)| {
        encoding.is_some_and(|encoding| {
            is_media(encoding)
                && line.0.formats().any(|taken| taken == format)
                && line.encoding_of(format).is_some_and(|name| name.eq_ignore_ascii_case(encoding))
        })
    })
}

fn is_rtp(line: Line<'_>) -> bool {
    matches!(line.media(), "audio" | "video")
}

/// The value of an attribute that may appear once: that of the line, or otherwise that of the session.
fn one<'a>(
    sdp: &'a Description,
    at: usize,
    line: Line<'a>,
    name: &'static str,
) -> Result<Option<&'a str>, SdpError> {
    let mut own = line.values(name);
    let Some(first) = own.next() else { return Ok(sdp.0.attribute_val(name)) };
    match own.find(|other| *other != first) {
        Some(other) => Err(invalid(at, "a second value of one attribute,", other, "one value")),
        None => Ok(Some(first)),
    }
}

fn is_payload_type(text: &str) -> bool {
    text.parse::<u8>().is_ok_and(|number| number < 128)
}

/// Whether `text` is made of printable ASCII without white space and has one of these lengths in bytes.
fn is_token(text: &str, length: std::ops::RangeInclusive<usize>) -> bool {
    length.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARED: &str = "c=IN IP4 0.0.0.0\r\na=ice-ufrag:abcd\r\na=ice-pwd:abcdefghijklmnopqrstuvwx\r\n\
        a=fingerprint:sha-256 \
        A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1:A1\r\n";

    /// Two video lines and a data channel.
    fn sdp(setup: &str) -> String {
        format!(
            "v=0\r\no=- 7 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE v0 v1 d\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 96 97\r\n{SHARED}a=setup:{setup}\r\na=mid:v0\r\na=rtcp-mux\r\n\
             a=rtpmap:96 H264/90000\r\na=fmtp:96 packetization-mode=1;profile-level-id=42e01f\r\n\
             a=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n\
             m=video 9 UDP/TLS/RTP/SAVPF 98\r\n{SHARED}a=setup:{setup}\r\na=mid:v1\r\na=rtpmap:98 VP8/90000\r\n\
             m=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n{SHARED}a=setup:{setup}\r\na=mid:d\r\n\
             a=sctp-port:5000\r\n"
        )
    }

    fn offered() -> Description {
        gst::init().expect("GStreamer");
        Description::offer(&sdp("actpass")).expect("an offer")
    }

    #[test]
    fn a_valid_offer_and_its_answer_are_accepted() {
        let answer = sdp("active");
        assert!(Description::answer(&answer, &offered()).is_ok());
        // Line ends of one character, and the second stream rejected.
        assert!(Description::answer(&answer.replace("\r\n", "\n"), &offered()).is_ok());
        let without = answer.replacen("m=video 9 UDP/TLS/RTP/SAVPF 98", "m=video 0 UDP/TLS/RTP/SAVPF 98", 1);
        let without = without.replace("BUNDLE v0 v1 d", "BUNDLE v0 d");
        assert!(Description::answer(&without, &offered()).is_ok());
    }

    #[test]
    fn an_error_names_the_value_that_webrtcbin_or_libnice_cannot_represent() {
        for (old, new, named) in [
            ("v=0", "v=9", "version"),
            ("a=ice-ufrag:abcd", "a=ice-ufrag:ü", "a=ice-ufrag"),
            ("a=ice-ufrag:abcd\r\n", "", "no a=ice-ufrag"),
            ("a=ice-pwd:abcdefghijklmnopqrstuvwx", "a=ice-pwd:short", "a=ice-pwd"),
            ("a=setup:active", "a=setup:holdconn", "a=setup"),
            ("a=setup:active", "a=setup:actpass", "a=setup"),
            ("a=setup:active", "a=setup:active\r\na=setup:passive", "second value"),
            ("sha-256 A1", "sha-1 A1", "a=fingerprint"),
            ("sha-256 A1", "md5 A1", "a=fingerprint"),
            ("a=mid:v0", "a=mid:", "a=mid"),
            ("a=mid:v0", "a=mid:v1", "a=mid"),
            ("a=mid:v0", "a=mid:x", "BUNDLE"),
            ("BUNDLE v0 v1 d", "BUNDLE v0 v1 d x", "BUNDLE"),
            ("BUNDLE v0 v1 d", "BUNDLE v1 v0 d", "BUNDLE"),
            ("BUNDLE v0 v1 d", "BUNDLE v0 v0", "BUNDLE"),
            ("a=group:BUNDLE v0 v1 d\r\n", "", "BUNDLE"),
            ("SAVPF 96 97", "SAVPF", "no payload type"),
            ("SAVPF 96 97", "SAVPF 255 300", "payload type"),
            ("SAVPF 96 97", "SAVPF 97", "apt"),
            ("UDP/TLS/RTP/SAVPF 96", "RTP/AVP 96", "protocol"),
            ("m=video 9", "m=audio 9", "media"),
            ("m=video 9", "m=video 99999", "port"),
            ("96 H264/90000", "96 H264/0", "a=rtpmap"),
            ("96 H264/90000", "96 VP8/90000", "codecs"),
            ("96 packetization-mode=1", "96 payload=x", "a=fmtp"),
            ("apt=96", "apt=97", "a=fmtp"),
            ("apt=96", "apt=", "a=fmtp"),
            ("sctp-port:5000", "sctp-port:0", "a=sctp-port"),
            ("sctp-port:5000", "sctp-port:99999", "a=sctp-port"),
            ("m=application 9 UDP/DTLS/SCTP", "m=application 9 UDP/TLS/RTP/SAVPF", "protocol"),
        ] {
            let text = sdp("active").replacen(old, new, 1);
            let error = Description::answer(&text, &offered()).expect_err(new).to_string();
            assert!(error.contains(named), "{old} -> {new}: {error}");
        }
    }

    #[test]
    fn an_answer_needs_as_many_lines_as_the_offer() {
        let answer = sdp("active");
        let (head, _) = answer.split_once("m=video").expect("an m-line");
        assert!(matches!(Description::answer(head, &offered()), Err(SdpError::Unreadable(_))));
        let more = format!("{answer}m=video 0 UDP/TLS/RTP/SAVPF 99\r\n");
        assert!(matches!(Description::answer(&more, &offered()), Err(SdpError::Answer(_))));
        let many = format!("v=0\r\n{}", "m=video 0 X 1\r\n".repeat(65));
        assert!(matches!(Description::offer(&many), Err(SdpError::Unreadable(_))));
    }

    #[test]
    fn text_that_gst_sdp_would_truncate_is_refused() {
        gst::init().expect("GStreamer");
        for text in
            ["v=0\r\nm=video 9 X\0 96\r\n".to_owned(), format!("v=0\r\nm={} 9 X 96\r\n", "ü".repeat(5000))]
        {
            assert!(matches!(Description::offer(&text), Err(SdpError::Unreadable(_))));
        }
        for text in ["", "nonsense"] {
            assert!(matches!(Description::offer(text), Err(SdpError::Unreadable(_))), "{text:?}");
        }
    }

    #[test]
    fn a_rejected_line_needs_no_attributes() {
        let text = sdp("active");
        let lines: Vec<&str> = text.split("m=application").collect();
        let text = format!("{}m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n", lines[0]);
        let text = text.replace("BUNDLE v0 v1 d", "BUNDLE v0 v1");
        assert!(Description::answer(&text, &offered()).is_ok());
    }
}
