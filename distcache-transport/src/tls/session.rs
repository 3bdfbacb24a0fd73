//! What is known of a finished TLS session.

use rustls::{ConnectionCommon, Error as RustlsError};

use super::certificate::PeerCertificate;

/// Is what one TLS session leaves for the handshake above it; without TLS, nothing.
#[derive(Debug, Default)]
pub(crate) struct TlsSession {
    exporter: Option<[u8; EXPORTER_BYTES]>,
    certificate: Option<PeerCertificate>,
    generation: u64,
}

impl TlsSession {
    /// Takes it from a connection whose TLS handshake is done, with credentials of that generation.
    pub(super) fn of<Side>(connection: &ConnectionCommon<Side>, generation: u64) -> Result<Self, RustlsError> {
        let exporter = connection.export_keying_material([0; EXPORTER_BYTES], EXPORTER_LABEL, None)?;
        let leaf = connection.peer_certificates().and_then(<[_]>::first);
        Ok(Self { exporter: Some(exporter), certificate: leaf.map(PeerCertificate::read).transpose()?, generation })
    }

    /// Returns bytes that the two ends of this session share with nobody else (RFC 8446, section 7.5); none without TLS.
    pub(crate) fn exporter(&self) -> &[u8] {
        self.exporter.as_ref().map_or(&[], |exporter| exporter)
    }

    /// Returns which of this node's credentials the session was made with; 0 without TLS.
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Returns what the peer's certificate says; none without TLS, and of a client that needed none.
    pub(crate) const fn certificate(&self) -> Option<&PeerCertificate> {
        self.certificate.as_ref()
    }
}

const EXPORTER_LABEL: &[u8] = b"EXPORTER-distcache-hello";

/// As long as the hash that the proof is made with.
const EXPORTER_BYTES: usize = 32;
