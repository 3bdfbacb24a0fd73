//! A secret that all nodes of a cluster share: [`SecretKeys`], and the proofs that they know it.

use std::{fmt, sync::Arc};

use ring::hmac;
use thiserror::Error;

use crate::{
    config::Hello,
    handshake::{NONCE_BYTES, VersionRange},
    lane::{Lane, Purpose},
};

/// Holds the keys that a cluster's nodes share. Clones share them.
///
/// In the handshake either end proves to the other that it holds one, with HMAC-SHA256 over who both are and two fresh nonces,
/// so the keys themselves never travel. With TLS the proof also holds for that one TLS session only. Without TLS it keeps
/// strangers and other clusters out and no more: nothing is encrypted, and whoever can change packets can take over a link.
///
/// The first key signs, all of them verify. To change a key without an outage, give every node `[old, new]`, then every node
/// `[new, old]`, then every node `[new]`. Make keys of random bytes, not of words: whoever dials a node learns enough to test
/// guesses at home.
///
/// # Examples
///
/// ```
/// use distcache_transport::{SecretError, SecretKeys, Security};
///
/// let secret = SecretKeys::new(["a new key, 32 random bytes in hex", "the old key, until all have both"])?;
/// let security = Security { secret: Some(secret), ..Security::default() };
/// assert_eq!(format!("{security:?}"), "Security { tls: None, secret: Some(SecretKeys(2 keys)) }");
///
/// assert_eq!(SecretKeys::new(["short"]).unwrap_err(), SecretError::TooShort { position: 0, bytes: 5 });
/// # Ok::<(), SecretError>(())
/// ```
#[derive(Clone)]
pub struct SecretKeys {
    keys: Arc<[hmac::Key]>,
}

impl SecretKeys {
    /// Takes the keys, at least 16 bytes each; the first signs.
    ///
    /// # Errors
    /// [`SecretError`] if there is no key, or a short one.
    pub fn new<K: AsRef<[u8]>>(keys: impl IntoIterator<Item = K>) -> Result<Self, SecretError> {
        let keys = keys.into_iter().enumerate().map(|(position, key)| match key.as_ref() {
            short if short.len() < MIN_KEY_BYTES => Err(SecretError::TooShort { position, bytes: short.len() }),
            key => Ok(hmac::Key::new(hmac::HMAC_SHA256, key)),
        });
        let keys: Vec<_> = keys.collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(SecretError::Empty);
        }
        Ok(Self { keys: keys.into() })
    }

    /// Makes the proof of one end.
    pub(crate) fn prove(&self, role: Role, transcript: &Transcript<'_>) -> [u8; PROOF_BYTES] {
        let tag = hmac::sign(&self.keys[0], &transcript.bytes(role));
        tag.as_ref().try_into().expect("HMAC-SHA256 has 32 bytes")
    }

    /// Tells whether one end has made this proof with any of the keys. The time it takes does not depend on the proof.
    pub(crate) fn verify(&self, role: Role, transcript: &Transcript<'_>, proof: &[u8; PROOF_BYTES]) -> bool {
        let bytes = transcript.bytes(role);
        self.keys.iter().any(|key| hmac::verify(key, &bytes, proof).is_ok())
    }
}

impl fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKeys({} keys)", self.keys.len())
    }
}

/// Explains why keys cannot be used. The caller is at fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SecretError {
    /// There is no key.
    #[error("a shared secret needs a key")]
    Empty,
    /// A key is too short to resist guessing.
    #[error("key {position} of the shared secret has {bytes} bytes, and needs at least 16")]
    TooShort {
        /// Its place in the list, from 0.
        position: usize,
        /// Its length.
        bytes: usize,
    },
}

/// Whose proof it is. Part of it, so that nobody's own proof can be sent back to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Dialler,
    Listener,
}

/// All that both ends must see alike.
#[derive(Debug)]
pub(crate) struct Transcript<'a> {
    pub(crate) offered: VersionRange,
    pub(crate) version: u16,
    pub(crate) purpose: Purpose,
    pub(crate) dialler: &'a Hello,
    pub(crate) listener: &'a Hello,
    pub(crate) dialler_nonce: [u8; NONCE_BYTES],
    pub(crate) listener_nonce: [u8; NONCE_BYTES],
    /// What only the two ends of a TLS session know; empty without TLS.
    pub(crate) exporter: &'a [u8],
}

impl Transcript<'_> {
    /// Lays out what is signed: the domain, the role, the lane (0 data, 1 control), the numbers in little-endian, the link's among
    /// them, the nonces, and then every part of variable length behind its length as a `u64`, so that no two transcripts have the
    /// same bytes.
    fn bytes(&self, role: Role) -> Vec<u8> {
        let mut out = DOMAIN.to_vec();
        out.push(match role {
            Role::Dialler => 1,
            Role::Listener => 2,
        });
        out.push(match self.purpose.lane {
            Lane::Data => 0,
            Lane::Control => 1,
        });
        for number in [self.offered.min, self.offered.max, self.version] {
            out.extend(number.to_le_bytes());
        }
        out.extend(self.purpose.link.0.to_le_bytes());
        out.extend(self.dialler_nonce);
        out.extend(self.listener_nonce);
        let label = self.dialler.label.as_str().as_bytes();
        for part in [label, &self.dialler.identity, &self.listener.identity, self.exporter] {
            out.extend((part.len() as u64).to_le_bytes());
            out.extend(part);
        }
        out
    }
}

/// Keeps these proofs apart from whatever else the same keys may sign.
const DOMAIN: &[u8] = b"distcache hello proof";

/// 128 bits, the strength of the rest.
const MIN_KEY_BYTES: usize = 16;

/// An HMAC-SHA256 in full.
pub(crate) const PROOF_BYTES: usize = 32;

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::{config::ClusterLabel, lane::LinkNumber};

    const PURPOSE: Purpose = Purpose { lane: Lane::Data, link: LinkNumber(77) };

    fn hello(label: &str, identity: &'static str) -> Hello {
        Hello { label: ClusterLabel::try_from(label).unwrap(), identity: Bytes::from_static(identity.as_bytes()) }
    }

    fn transcript<'a>(dialler: &'a Hello, listener: &'a Hello, exporter: &'a [u8]) -> Transcript<'a> {
        let offered = VersionRange { min: 1, max: 1 };
        let (dialler_nonce, listener_nonce) = (*b"0123456789abcdef", *b"fedcba9876543210");
        Transcript { offered, version: 1, purpose: PURPOSE, dialler, listener, dialler_nonce, listener_nonce, exporter }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn proofs_have_their_golden_bytes() {
        let (dialler, listener) = (hello("prod", "alice"), hello("prod", "bob"));
        let keys = SecretKeys::new(["sixteen bytes ok"]).unwrap();
        let plain = transcript(&dialler, &listener, &[]);
        assert_eq!(hex(&keys.prove(Role::Dialler, &plain)), GOLDEN_DIALLER);
        assert_eq!(hex(&keys.prove(Role::Listener, &plain)), GOLDEN_LISTENER);
        let exporter = [7; 32];
        let tls = transcript(&dialler, &listener, &exporter);
        assert_eq!(hex(&keys.prove(Role::Dialler, &tls)), GOLDEN_TLS);
    }

    #[test]
    fn every_part_of_the_transcript_is_bound() {
        let keys = SecretKeys::new(["sixteen bytes ok"]).unwrap();
        let (alice, bob, eve) = (hello("prod", "alice"), hello("prod", "bob"), hello("prod", "eve"));
        let (other_label, exporter) = (hello("test", "alice"), [7; 32]);
        let original = || transcript(&alice, &bob, &exporter);
        let proof = keys.prove(Role::Dialler, &original());
        assert!(keys.verify(Role::Dialler, &original(), &proof));
        assert!(!keys.verify(Role::Listener, &original(), &proof), "role");
        let changed = [
            ("label", Transcript { dialler: &other_label, ..original() }),
            ("dialler", Transcript { dialler: &eve, ..original() }),
            ("listener", Transcript { listener: &eve, ..original() }),
            ("both swapped", Transcript { dialler: &bob, listener: &alice, ..original() }),
            ("dialler's nonce", Transcript { dialler_nonce: [0; 16], ..original() }),
            ("listener's nonce", Transcript { listener_nonce: [0; 16], ..original() }),
            ("offered versions", Transcript { offered: VersionRange { min: 1, max: 2 }, ..original() }),
            ("version", Transcript { version: 2, ..original() }),
            ("lane", Transcript { purpose: Purpose { lane: Lane::Control, ..PURPOSE }, ..original() }),
            ("link", Transcript { purpose: Purpose { link: LinkNumber(78), ..PURPOSE }, ..original() }),
            ("tls session", Transcript { exporter: &[8; 32], ..original() }),
            ("no tls", Transcript { exporter: &[], ..original() }),
        ];
        for (what, transcript) in changed {
            assert!(!keys.verify(Role::Dialler, &transcript, &proof), "{what}");
        }
    }

    #[test]
    fn bytes_cannot_move_from_one_part_to_the_next() {
        let keys = SecretKeys::new(["sixteen bytes ok"]).unwrap();
        let (long, short) = (hello("prod", "alicebob"), hello("prod", ""));
        let (alice, bob) = (hello("prod", "alice"), hello("prod", "bob"));
        let proof = keys.prove(Role::Dialler, &transcript(&alice, &bob, &[]));
        assert!(!keys.verify(Role::Dialler, &transcript(&long, &short, &[]), &proof));
    }

    #[test]
    fn first_key_signs_and_all_verify() {
        let (alice, bob) = (hello("prod", "alice"), hello("prod", "bob"));
        let transcript = transcript(&alice, &bob, &[]);
        let [old, new] = ["the old key, in use", "the new key, coming"];
        let [only_old, old_new, new_old, only_new] =
            [vec![old], vec![old, new], vec![new, old], vec![new]].map(|keys| SecretKeys::new(keys).unwrap());
        let meets = |a: &SecretKeys, b: &SecretKeys| {
            b.verify(Role::Dialler, &transcript, &a.prove(Role::Dialler, &transcript))
                && a.verify(Role::Listener, &transcript, &b.prove(Role::Listener, &transcript))
        };
        for (a, b) in [(&only_old, &old_new), (&old_new, &new_old), (&new_old, &only_new)] {
            assert!(meets(a, b) && meets(b, a), "neighbouring steps of a rotation");
        }
        assert!(!meets(&only_old, &only_new));
        assert!(!meets(&old_new, &only_new), "a key that no longer verifies");
    }

    #[test]
    fn short_and_missing_keys_are_faults() {
        assert_eq!(SecretKeys::new(Vec::<&str>::new()).unwrap_err(), SecretError::Empty);
        let keys = [&[0; 16][..], &[0; 15]];
        let error = SecretKeys::new(keys).unwrap_err();
        assert_eq!(error, SecretError::TooShort { position: 1, bytes: 15 });
        assert!(error.to_string().contains("16"));
    }

    #[test]
    fn debug_output_holds_no_secret() {
        let keys = SecretKeys::new(["sixteen bytes ok"]).unwrap();
        assert_eq!(format!("{keys:?} {keys:#?}"), "SecretKeys(1 keys) SecretKeys(1 keys)");
    }

    /// Computed by another implementation, from the layout alone.
    const GOLDEN_DIALLER: &str = "7a083b551b4e55cd040babcb00c059d9ab211d5b1dcd94e3fc8836988555b7af";
    const GOLDEN_LISTENER: &str = "3ec15428c1970c7d391dacf5d81eef1fa12455047afa62c8c99a5b85ef070c8b";
    const GOLDEN_TLS: &str = "686e96052b1ead9ef6f8ef2ebbe8bf68694648e4047a2c8503dac0cba6b91728";
}
