//! The DTLS certificate of this process: ECDSA on P-256, which every WebRTC peer accepts.
//!
//! webrtcbin makes an RSA certificate of its own, with which peers that offer only ECDSA suites (aiortc) can't finish
//! the handshake. [`install`] gives each `dtlsdec` inside a webrtcbin this one instead. webrtcbin still writes the
//! fingerprint of its own certificate (RFC 8122), so every outgoing description has to name [`fingerprint`].

use gst::prelude::*;
use sha2::{Digest, Sha256};
use std::{
    sync::{Arc, LazyLock, Mutex, Once, PoisonError},
    thread::JoinHandle,
};

struct Certificate {
    /// Certificate and private key, in the form of `dtlsdec`'s property `pem`.
    pem: String,
    /// SHA-256 of the certificate, upper-case hexadecimal with colons.
    fingerprint: String,
}

/// Made at the first use. `None` where no key could be made; webrtcbin then keeps its own certificate.
static CERTIFICATE: LazyLock<Option<Certificate>> = LazyLock::new(|| match generate() {
    Ok(certificate) => Some(certificate),
    Err(error) => {
        gst::warning!(
            crate::log::CAT,
            "using webrtcbin's RSA certificate, because making one failed: {error}"
        );
        None
    }
});

/// Gives every DTLS transport of `webrtcbin` the certificate of this process, and calls `peer` with the certificate
/// (PEM) that the other end presents. Call it before the first pad or description.
pub(crate) fn install(webrtcbin: &gst::Element, peer: impl Fn(String) + Send + Sync + 'static) {
    let Some(bin) = webrtcbin.downcast_ref::<gst::Bin>() else { return };
    let peer = Arc::new(peer);
    bin.connect_deep_element_added(move |_, _, element| {
        if element.factory().is_none_or(|factory| factory.name() != "dtlsdec") {
            return;
        }
        if let Some(certificate) = CERTIFICATE.as_ref() {
            element.set_property("pem", &certificate.pem);
        }
        let peer = peer.clone();
        element.connect_notify(Some("peer-pem"), move |dtlsdec, _| {
            if let Some(pem) = dtlsdec.property::<Option<String>>("peer-pem") {
                peer(pem);
            }
        });
    });
}

/// The SHA-256 fingerprint of the certificate that [`install`] gives away. `None` where webrtcbin keeps its own.
pub(crate) fn fingerprint() -> Option<&'static str> {
    CERTIFICATE.as_ref().map(|certificate| certificate.fingerprint.as_str())
}

static WARM_UP: Mutex<Option<JoinHandle<()>>> = Mutex::new(None);

/// Makes, on a thread of its own and once in a process, the certificate and the RSA key that the first DTLS element
/// generates whether it is used or not (a quarter of a second).
pub(crate) fn warm_up() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let spawned = std::thread::Builder::new().name("room-warm-up".into()).spawn(|| {
            LazyLock::force(&CERTIFICATE);
            drop(gst::ElementFactory::make("dtlsdec").build());
        });
        match spawned {
            Ok(thread) => *WARM_UP.lock().unwrap_or_else(PoisonError::into_inner) = Some(thread),
            Err(error) => gst::debug!(crate::log::CAT, "no thread to warm up DTLS: {error}"),
        }
    });
}

/// Waits for the end of [`warm_up`], because a process must not end while OpenSSL generates a key.
pub(crate) fn wait_for_warm_up() {
    let thread = WARM_UP.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(thread) = thread {
        let _ = thread.join();
    }
}

fn generate() -> Result<Certificate, rcgen::Error> {
    // rcgen's defaults are ECDSA P-256 with SHA-256, and a validity until the year 4096. Peers compare the fingerprint
    // and ignore dates; a process may run for years.
    let made = rcgen::generate_simple_self_signed(vec!["roomwebrtc".to_owned()])?;
    let fingerprint = Sha256::digest(made.cert.der())
        .iter()
        .map(|byte| format!("{byte:02X}"))
        .collect::<Vec<_>>()
        .join(":");
    Ok(Certificate { pem: made.cert.pem() + &made.signing_key.serialize_pem(), fingerprint })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_certificate_is_a_p256_one_with_32_bytes_of_fingerprint() {
        let made = generate().expect("a certificate");
        assert_eq!(made.fingerprint.split(':').count(), 32);
        assert!(made.pem.contains("BEGIN CERTIFICATE") && made.pem.contains("BEGIN PRIVATE KEY"));
        // A P-256 key with its public part is 138 bytes of PKCS#8: far less than any RSA key.
        assert!(made.pem.len() < 1500, "{} bytes of PEM", made.pem.len());
    }

    #[test]
    fn a_dtls_element_inside_webrtcbin_gets_it() {
        gst::init().expect("GStreamer");
        let webrtcbin = gst::ElementFactory::make("webrtcbin").build().expect("webrtcbin");
        install(&webrtcbin, |_| ());
        let dtls = gst::ElementFactory::make("dtlsdec").build().expect("dtlsdec");
        webrtcbin.downcast_ref::<gst::Bin>().expect("a bin").add(&dtls).expect("added");
        let ours = CERTIFICATE.as_ref().expect("a certificate");
        let body = ours.pem.split("-----END CERTIFICATE-----").next().expect("a certificate first");
        assert!(dtls.property::<String>("pem").starts_with(body), "dtlsdec kept its own certificate");
    }
}
