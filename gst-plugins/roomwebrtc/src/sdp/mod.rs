//! Session descriptions (RFC 8866, RFC 8829): parsed, checked and edited with `gst_sdp`, without elements. `check.rs` validates
//! descriptions from the network, `candidate.rs` candidates, and `fingerprint.rs` DTLS certificates.
//!
//! Architecture invariant: every remote [`Description`] was checked by [`check`], because webrtcbin and libnice read some
//! attributes without checking that they exist and are in a valid range.

mod candidate;
mod check;
mod fingerprint;

pub(crate) use candidate::is_usable as is_usable_candidate;
pub(crate) use check::SdpError;
pub(crate) use fingerprint::Fingerprints;

use crate::codec::Codec;
use gst_sdp::{SDPAttribute, SDPMediaRef, SDPMessage};

/// A session description: an offer or an answer, ours or the peer's.
#[derive(Debug, Clone)]
pub(crate) struct Description(SDPMessage);

impl Description {
    /// Parses and checks an offer of the peer.
    pub(crate) fn offer(text: &str) -> Result<Self, SdpError> {
        let offer = check::parse(text)?;
        check::offer(&offer)?;
        Ok(offer)
    }

    /// Parses the peer's answer and checks it against `offer`.
    pub(crate) fn answer(text: &str, offer: &Description) -> Result<Self, SdpError> {
        let mut answer = check::parse(text)?;
        check::answer(&answer, offer)?;
        answer.share_credentials();
        Ok(answer)
    }

    /// A description that webrtcbin created.
    pub(crate) fn local(message: &gst_sdp::SDPMessageRef) -> Self {
        Self(message.to_owned())
    }

    /// The description as text. The error is the reason why `gst_sdp` could not write it.
    pub(crate) fn to_text(&self) -> Result<String, String> {
        self.0.as_text().map_err(|error| format!("the session description cannot be written: {error}"))
    }

    /// The description as webrtcbin accepts it.
    pub(crate) fn to_message(&self) -> SDPMessage {
        self.0.clone()
    }

    /// The m-lines in order.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.0.medias().map(Line)
    }

    /// The `a=mid` of the m-line with this index (RFC 8843). Candidates name their m-line by both.
    pub(crate) fn mid(&self, m_line: u32) -> Option<&str> {
        self.0.media(m_line)?.attribute_val("mid")
    }

    /// The index of the m-line with this `a=mid`.
    pub(crate) fn line_of_mid(&self, mid: &str) -> Option<u32> {
        let line = self.lines().position(|line| line.mid() == Some(mid))?;
        u32::try_from(line).ok()
    }

    /// How many m-lines there are.
    pub(crate) fn len(&self) -> u32 {
        self.0.medias_len()
    }

    /// The fingerprints that the certificate of this description's sender has to match.
    pub(crate) fn fingerprints(&self) -> Fingerprints {
        fingerprint::of(self)
    }

    /// Replaces every `a=fingerprint` by `sha-256 value`.
    pub(crate) fn set_fingerprint(&mut self, value: &str) {
        let attribute = || SDPAttribute::new("fingerprint", Some(&format!("sha-256 {value}")));
        for at in positions(self.0.attributes(), "fingerprint") {
            let _ = self.0.replace_attribute(at, attribute());
        }
        for media in self.0.medias_mut() {
            for at in positions(media.attributes(), "fingerprint") {
                let _ = media.replace_attribute(at, attribute());
            }
        }
    }

    /// Adds the format parameters that webrtcbin leaves out before data flows ([`Codec::offered_parameters`]).
    pub(crate) fn complete_formats(&mut self) {
        for media in self.0.medias_mut() {
            for at in positions(media.attributes(), "fmtp") {
                let value = media.attribute(at).and_then(SDPAttribute::value).unwrap_or_default();
                let format = value.split(' ').next().unwrap_or_default();
                let codec = Line(media).encoding_of(format).and_then(Codec::of_encoding);
                let Some(parameters) = codec.map(|codec| codec.offered_parameters) else { continue };
                let name = parameters.split('=').next().unwrap_or_default();
                if !name.is_empty() && !value.contains(name) {
                    let value = format!("{value};{parameters}");
                    let _ = media.replace_attribute(at, SDPAttribute::new("fmtp", Some(&value)));
                }
            }
        }
    }

    /// Gives rejected m-lines the ICE credentials of the first line in use. webrtcbin applies the credentials of every
    /// line to the one transport that all lines share, so the separate ones that browsers write into a rejected line
    /// would replace those that are valid.
    fn share_credentials(&mut self) {
        let Some(used) = self.0.medias().find(|media| !Line(media).is_rejected()) else { return };
        let valid: Vec<(&str, String)> = ["ice-ufrag", "ice-pwd"]
            .into_iter()
            .filter_map(|name| {
                let value = used.attribute_val(name).or_else(|| self.0.attribute_val(name))?;
                Some((name, value.to_owned()))
            })
            .collect();
        for media in self.0.medias_mut().filter(|media| Line(media).is_rejected()) {
            for (name, value) in &valid {
                for at in positions(media.attributes(), name) {
                    let _ = media.replace_attribute(at, SDPAttribute::new(name, Some(value)));
                }
            }
        }
    }

    /// Marks the m-line with this index as inactive, as if its sender had offered no media on it. webrtcbin then answers
    /// `inactive`, and the sender does not send that stream.
    pub(crate) fn deactivate(&mut self, m_line: u32) {
        let Some(media) = self.0.media_mut(m_line) else { return };
        let mut directions: Vec<u32> =
            DIRECTIONS.iter().flat_map(|direction| positions(media.attributes(), direction)).collect();
        directions.sort_unstable();
        for at in directions.into_iter().rev() {
            let _ = media.remove_attribute(at);
        }
        media.add_attribute("inactive", None);
    }

    /// Removes all formats of an m-line except for this one and its retransmission (RFC 4588), as if the sender had
    /// offered no others. webrtcbin would otherwise answer with the first format, whether it can be received or not.
    pub(crate) fn keep_format(&mut self, m_line: u32, format: &str) {
        let Some(media) = self.0.media_mut(m_line) else { return };
        let retransmission = Line(media).retransmission_of(format).map(str::to_owned);
        let is_kept = |other: &str| other == format || retransmission.as_deref() == Some(other);
        let formats: Vec<u32> =
            (0..).zip(media.formats()).filter(|(_, other)| !is_kept(other)).map(|(at, _)| at).collect();
        let attributes: Vec<u32> = (0..)
            .zip(media.attributes())
            .filter(|(_, attribute)| FORMAT_ATTRIBUTES.contains(&attribute.key()))
            .filter(|(_, attribute)| {
                let of = attribute.value().unwrap_or_default().split(' ').next().unwrap_or_default();
                of != "*" && !is_kept(of)
            })
            .map(|(at, _)| at)
            .collect();
        for at in formats.into_iter().rev() {
            let _ = media.remove_format(at);
        }
        for at in attributes.into_iter().rev() {
            let _ = media.remove_attribute(at);
        }
    }
}

/// Attributes whose value begins with a format, or with `*` for all of them.
const FORMAT_ATTRIBUTES: [&str; 3] = ["rtpmap", "fmtp", "rtcp-fb"];

const DIRECTIONS: [&str; 4] = ["sendrecv", "sendonly", "recvonly", "inactive"];

/// The indexes of the attributes with this name.
fn positions<'a>(attributes: impl Iterator<Item = &'a SDPAttribute>, name: &str) -> Vec<u32> {
    (0..).zip(attributes).filter(|(_, attribute)| attribute.key() == name).map(|(at, _)| at).collect()
}

/// One m-line with its attributes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a>(&'a SDPMediaRef);

impl<'a> Line<'a> {
    /// `video`, `audio` or `application`.
    pub(crate) fn media(self) -> &'a str {
        self.0.media().unwrap_or_default()
    }

    /// The `a=mid` (RFC 8843).
    pub(crate) fn mid(self) -> Option<&'a str> {
        self.0.attribute_val("mid")
    }

    /// Whether the line is out of use: port 0 (RFC 3264), unless it is to share the port of another line
    /// (`a=bundle-only`, RFC 8843).
    pub(crate) fn is_rejected(self) -> bool {
        self.0.port() == 0 && !self.has("bundle-only")
    }

    /// Whether the sender of the description receives on this line.
    pub(crate) fn receives(self) -> bool {
        !self.is_rejected() && !self.has("sendonly") && !self.has("inactive")
    }

    /// Whether the sender of the description sends on this line.
    pub(crate) fn sends(self) -> bool {
        !self.is_rejected() && !self.has("recvonly") && !self.has("inactive")
    }

    /// The payload types of the m-line with the encoding name of each, if it has one.
    pub(crate) fn formats(self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> {
        self.0.formats().map(move |format| (format, self.encoding_of(format)))
    }

    /// The payload type under which packets of `format` are sent again: `a=fmtp:97 apt=96` (RFC 4588).
    fn retransmission_of(self, format: &str) -> Option<&'a str> {
        self.formats().find_map(|(other, encoding)| {
            let is_rtx = encoding.is_some_and(|encoding| encoding.eq_ignore_ascii_case("rtx"));
            let parameters = self.values("fmtp").filter_map(|value| value.split_once(' '));
            let mut parameters =
                parameters.filter(|(of, _)| *of == other).flat_map(|(_, parameters)| parameters.split(';'));
            (is_rtx && parameters.any(|parameter| parameter.trim().strip_prefix("apt=") == Some(format)))
                .then_some(other)
        })
    }

    fn encoding_of(self, format: &str) -> Option<&'a str> {
        self.values("rtpmap")
            .filter_map(|value| value.split_once(' '))
            .find(|(number, _)| *number == format)
            .and_then(|(_, name)| name.trim_start().split('/').next())
    }

    fn has(self, name: &str) -> bool {
        self.0.attributes().any(|attribute| attribute.key() == name)
    }

    fn values(self, name: &'static str) -> impl Iterator<Item = &'a str> {
        self.0.attributes().filter(move |attribute| attribute.key() == name).filter_map(SDPAttribute::value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A description that passes no check: for what only reads and edits.
    pub(super) fn unchecked(text: &str) -> Description {
        gst::init().expect("GStreamer");
        Description(SDPMessage::parse_buffer(text.as_bytes()).expect("SDP"))
    }

    #[test]
    fn a_mid_and_its_m_line_are_found_from_each_other() {
        let sdp =
            unchecked("v=0\r\nm=video 9 X 96\r\na=mid:0\r\nm=audio 9 X 97\r\na=mid:x\r\nm=audio 9 X 98\r\n");
        assert_eq!((sdp.mid(0), sdp.mid(1), sdp.mid(2), sdp.mid(9)), (Some("0"), Some("x"), None, None));
        assert_eq!((sdp.line_of_mid("x"), sdp.line_of_mid("y")), (Some(1), None));
    }

    #[test]
    fn a_rejected_line_has_the_credentials_of_the_line_in_use() {
        let line = |port, user, password| {
            format!("m=video {port} X 96\r\na=ice-ufrag:{user}\r\na=ice-pwd:{password}\r\n")
        };
        for (answer, expected) in [
            (line(9, "used", "p1") + &line(0, "other", "p2"), line(9, "used", "p1") + &line(0, "used", "p1")),
            (line(0, "other", "p2") + &line(9, "used", "p1"), line(0, "used", "p1") + &line(9, "used", "p1")),
            (line(0, "a", "b") + &line(0, "c", "d"), line(0, "a", "b") + &line(0, "c", "d")),
        ] {
            let mut sdp = unchecked(&format!("v=0\r\nt=0 0\r\n{answer}"));
            sdp.share_credentials();
            assert_eq!(sdp.to_text().expect("text"), format!("v=0\r\nt=0 0\r\n{expected}"));
        }
    }

    #[test]
    fn every_fingerprint_is_replaced_and_nothing_else() {
        let mut sdp = unchecked(
            "v=0\r\nt=0 0\r\na=fingerprint:sha-256 AA:BB\r\nm=video 9 X 96\r\na=fingerprint:sha-1 CC\r\na=mid:0\r\n",
        );
        sdp.set_fingerprint("11:22");
        assert_eq!(
            sdp.to_text().expect("text"),
            "v=0\r\nt=0 0\r\na=fingerprint:sha-256 11:22\r\n\
             m=video 9 X 96\r\na=fingerprint:sha-256 11:22\r\na=mid:0\r\n"
        );
    }

    #[test]
    fn the_offer_names_a_profile_that_every_browser_decodes() {
        let rest = "a=rtpmap:96 H264/90000\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\n";
        let mut sdp = unchecked(&format!(
            "v=0\r\nt=0 0\r\nm=video 9 X 96 97\r\na=fmtp:96 packetization-mode=1\r\n{rest}"
        ));
        sdp.complete_formats();
        let once = sdp.to_text().expect("text");
        assert_eq!(
            once,
            format!(
                "v=0\r\nt=0 0\r\nm=video 9 X 96 97\r\n\
                 a=fmtp:96 packetization-mode=1;profile-level-id=42e01f;level-asymmetry-allowed=1\r\n{rest}"
            )
        );
        sdp.complete_formats();
        assert_eq!(sdp.to_text().expect("text"), once);
    }

    #[test]
    fn one_format_is_kept_with_its_retransmission_and_its_attributes() {
        let mut sdp = unchecked(
            "v=0\r\nm=video 9 X 96 97 98 99 100 101\r\na=mid:0\r\na=rtcp-fb:* nack\r\na=rtpmap:96 VP9/90000\r\n\
             a=rtcp-fb:96 nack pli\r\na=rtpmap:97 rtx/90000\r\na=fmtp:97 apt=96\r\na=rtpmap:98 H264/90000\r\n\
             a=rtcp-fb:98 nack pli\r\na=fmtp:98 packetization-mode=1\r\na=rtpmap:99 rtx/90000\r\n\
             a=fmtp:99 rtx-time=100; apt=98\r\na=rtpmap:100 red/90000\r\na=rtpmap:101 rtx/90000\r\n\
             a=fmtp:101 apt=100\r\na=ssrc-group:FID 1 2\r\nm=audio 9 X 97\r\na=rtpmap:97 OPUS/48000/2\r\n",
        );
        sdp.keep_format(0, "98");
        assert_eq!(
            sdp.to_text().expect("text"),
            "v=0\r\nt=0 0\r\nm=video 9 X 98 99\r\na=mid:0\r\na=rtcp-fb:* nack\r\na=rtpmap:98 H264/90000\r\n\
             a=rtcp-fb:98 nack pli\r\na=fmtp:98 packetization-mode=1\r\na=rtpmap:99 rtx/90000\r\n\
             a=fmtp:99 rtx-time=100; apt=98\r\na=ssrc-group:FID 1 2\r\nm=audio 9 X 97\r\n\
             a=rtpmap:97 OPUS/48000/2\r\n"
        );
        sdp.keep_format(1, "97");
        sdp.keep_format(9, "97");
        assert_eq!(sdp.lines().map(|line| line.formats().count()).collect::<Vec<_>>(), [2, 1]);
    }

    #[test]
    fn an_inactive_line_has_one_direction() {
        let mut sdp =
            unchecked("v=0\r\nm=video 9 X 96\r\na=sendonly\r\na=mid:0\r\na=sendrecv\r\nm=audio 9 X 97\r\n");
        sdp.deactivate(0);
        assert_eq!(
            sdp.to_text().expect("text"),
            "v=0\r\nt=0 0\r\nm=video 9 X 96\r\na=mid:0\r\na=inactive\r\nm=audio 9 X 97\r\n"
        );
        let sends: Vec<bool> = sdp.lines().map(Line::sends).collect();
        assert_eq!(sends, [false, true]);
        sdp.deactivate(7);
    }

    #[test]
    fn a_line_with_port_0_is_out_of_use_unless_it_shares_another_ones_port() {
        let sdp = unchecked(
            "v=0\r\nm=video 0 X 96\r\nm=video 0 X 97\r\na=bundle-only\r\nm=video 9 X 98\r\na=recvonly\r\n",
        );
        let rejected: Vec<bool> = sdp.lines().map(Line::is_rejected).collect();
        let receives: Vec<bool> = sdp.lines().map(Line::receives).collect();
        assert_eq!((rejected, receives), (vec![true, false, false], vec![false, true, true]));
    }
}
