//! The default hash of keys: a folded multiplication under secret keys, as fast as unkeyed hashes of its kind.
//!
//! Each block of 16 bytes is mixed by one multiplication of 64 by 64 bits whose two halves are folded together, the step that
//! wyhash introduced (Wang Yi, 2019) and that ahash and foldhash use. Both factors are masked with secrets that every
//! cache draws for itself, so nobody outside can prepare keys that meet in one shard or one bucket.

use std::hash::{BuildHasher, Hasher, RandomState};

/// Hashes keys with secrets of its own: the default of [`Cache`](crate::Cache).
///
/// Keys that were prepared to collide, under any hash or under this one with other secrets, are spread like random ones. It is
/// no cryptographic function: whoever can measure single look-ups of one process exactly, and adapt for long,
/// is better met by the standard library's [`RandomState`], which is slower.
///
/// # Examples
///
/// ```
/// use std::hash::BuildHasher;
///
/// use distcache_core::SecretState;
///
/// let state = SecretState::new();
/// assert_eq!(state.hash_one("key"), state.hash_one(String::from("key")));
/// assert_ne!(state.hash_one("key"), SecretState::new().hash_one("key"));
/// ```
#[derive(Clone)]
pub struct SecretState {
    secrets: [u64; 3],
}

impl SecretState {
    /// Draws new secrets, from what the standard library seeds its hash maps with.
    #[must_use]
    pub fn new() -> Self {
        let random = RandomState::new();
        // SipHash of a counter under a random key: as good as random to whoever does not know the key.
        Self { secrets: [0_u64, 1, 2].map(|number| random.hash_one(number)) }
    }

    #[cfg(test)]
    pub(crate) fn with_secrets(secrets: [u64; 3]) -> Self {
        Self { secrets }
    }
}

impl Default for SecretState {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for SecretState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretState").finish_non_exhaustive()
    }
}

impl BuildHasher for SecretState {
    type Hasher = SecretHasher;

    #[inline]
    fn build_hasher(&self) -> SecretHasher {
        let [low, high, state] = self.secrets;
        SecretHasher { low, high, state, small: 0, smalls: 0 }
    }
}

/// A hash in the making: see [`SecretState`].
#[derive(Clone)]
pub struct SecretHasher {
    low: u64,
    high: u64,
    state: u64,
    /// Integers that are not mixed yet, since one multiplication is enough for several.
    small: u64,
    smalls: u32,
}

impl SecretHasher {
    #[inline]
    fn add_small(&mut self, value: u64, bytes: u32) {
        if self.smalls + bytes > 8 {
            self.flush();
        }
        // Eight bytes at once overwrite nothing: `small` is empty then.
        self.small = if bytes == 8 { value } else { self.small << (8 * bytes) | value };
        self.smalls += bytes;
    }

    #[inline]
    fn flush(&mut self) {
        if self.smalls > 0 {
            self.state = self.finish();
            (self.small, self.smalls) = (0, 0);
        }
    }
}

impl Hasher for SecretHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.flush();
        // Blocks may overlap, so the length must count, and by more than an attacker can undo in a block.
        let state = self.state ^ (bytes.len() as u64).wrapping_mul(self.high | 1);
        self.state = if bytes.len() > 16 {
            hash_long(bytes, state, self.low, self.high)
        } else {
            let [a, b] = words(bytes);
            fold(a ^ state, b ^ self.high)
        };
    }

    #[inline]
    fn write_u8(&mut self, value: u8) {
        self.add_small(u64::from(value), 1);
    }

    #[inline]
    fn write_u16(&mut self, value: u16) {
        self.add_small(u64::from(value), 2);
    }

    #[inline]
    fn write_u32(&mut self, value: u32) {
        self.add_small(u64::from(value), 4);
    }

    #[inline]
    fn write_u64(&mut self, value: u64) {
        self.add_small(value, 8);
    }

    #[inline]
    fn write_u128(&mut self, value: u128) {
        self.flush();
        self.state = fold(value as u64 ^ self.state, (value >> 64) as u64 ^ self.high);
    }

    #[inline]
    fn write_usize(&mut self, value: usize) {
        self.add_small(value as u64, 8);
    }

    #[inline]
    fn finish(&self) -> u64 {
        fold(self.small ^ self.state, self.low ^ u64::from(self.smalls))
    }
}

/// Mixes two blocks of 16 bytes at a time, in two states, so that two multiplications are under way at once.
fn hash_long(bytes: &[u8], state: u64, low: u64, high: u64) -> u64 {
    let (mut first, mut second) = (state, state.rotate_left(32) ^ low);
    let mut add = |[a, b]: [u64; 2], [c, d]: [u64; 2]| {
        first = fold(a ^ low, b ^ first);
        second = fold(c ^ high, d ^ second);
    };
    let mut rest = bytes;
    while rest.len() > 32
        && let Some((block, after)) = rest.split_first_chunk::<32>()
    {
        let (pairs, _) = block.as_chunks::<16>();
        add(pair(&pairs[0]), pair(&pairs[1]));
        rest = after;
    }
    // What is left are 1 to 32 bytes: the two blocks that end them may overlap each other and what was taken.
    let (Some(start), Some(end)) = (bytes.first_chunk::<16>(), bytes.last_chunk::<16>()) else { return state };
    let start = bytes.last_chunk::<32>().and_then(|last| last.first_chunk::<16>()).unwrap_or(start);
    add(pair(start), pair(end));
    first ^ second.rotate_left(32)
}

/// Returns two words that hold every byte of at most 16.
#[inline]
fn words(bytes: &[u8]) -> [u64; 2] {
    if let (Some(start), Some(end)) = (bytes.first_chunk(), bytes.last_chunk()) {
        [u64::from_le_bytes(*start), u64::from_le_bytes(*end)]
    } else if let (Some(start), Some(end)) = (bytes.first_chunk(), bytes.last_chunk()) {
        [u64::from(u32::from_le_bytes(*start)), u64::from(u32::from_le_bytes(*end))]
    } else if let (Some(first), Some(last)) = (bytes.first(), bytes.last()) {
        [u64::from(*first) << 8 | u64::from(bytes[bytes.len() / 2]), u64::from(*last)]
    } else {
        [0, 0]
    }
}

impl std::fmt::Debug for SecretHasher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecretHasher").finish_non_exhaustive()
    }
}

/// Multiplies, and folds the two halves of the product together.
#[inline]
fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[inline]
fn pair(block: &[u8; 16]) -> [u64; 2] {
    let whole = u128::from_le_bytes(*block);
    [whole as u64, (whole >> 64) as u64]
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const SECRETS: [u64; 3] = [0x9AE1_6A3B_2F90_404F, 0xC3A5_C85C_97CB_3127, 0xB492_B66F_BE98_F273];

    fn hash(bytes: &[u8]) -> u64 {
        let mut hasher = SecretState::with_secrets(SECRETS).build_hasher();
        hasher.write(bytes);
        hasher.finish()
    }

    #[test]
    fn every_byte_and_every_length_counts() {
        // Equal bytes: blocks that overlap hold the same whatever the length is.
        let lengths: HashSet<_> = (0..200).map(|len| hash(&vec![7; len])).collect();
        assert_eq!(lengths.len(), 200);
        for len in [1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100] {
            let plain = vec![7; len];
            for at in 0..len {
                let mut changed = plain.clone();
                changed[at] ^= 1;
                assert_ne!(hash(&changed), hash(&plain), "byte {at} of {len} does not count");
            }
        }
    }

    #[test]
    fn integers_differ_by_value_order_and_width() {
        let state = SecretState::with_secrets(SECRETS);
        let hashes = [
            state.hash_one((1_u8, 2_u8)),
            state.hash_one((2_u8, 1_u8)),
            state.hash_one(0x0102_u16),
            state.hash_one(0x0102_u32),
            state.hash_one((1_u64, 2_u64)),
            state.hash_one((2_u64, 1_u64)),
            state.hash_one(1_u128 | 2 << 64),
            state.hash_one([0_u8; 3]),
            state.hash_one([0_u8; 4]),
            state.hash_one(("a", "b")),
            state.hash_one(("ab", "")),
            state.hash_one(""),
        ];
        // A pair of bytes and a number of two bytes may be equal: no key type has both.
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len() - 1);
    }

    #[test]
    fn one_bit_of_a_key_changes_half_of_the_hash() {
        let state = SecretState::with_secrets(SECRETS);
        let mut flips = [0_u32; 64];
        let pairs = 20_000_u64;
        for key in 0..pairs {
            let text = format!("user:{key:08}");
            let mut other = text.clone().into_bytes();
            other[(key % 13) as usize] ^= 1 << (key % 7);
            let other = String::from_utf8(other).expect("seven bits stay seven bits");
            let changed = state.hash_one(&*text) ^ state.hash_one(&*other);
            (0..64).for_each(|bit| flips[bit] += u32::from(changed >> bit & 1 == 1));
        }
        for (bit, flips) in flips.iter().enumerate() {
            let share = f64::from(*flips) / pairs as f64;
            assert!((0.47..0.53).contains(&share), "bit {bit} changes in {share} of the cases");
        }
    }

    #[test]
    fn caches_do_not_share_their_secrets() {
        let hashes: HashSet<_> = (0..100).map(|_| SecretState::new().hash_one("key")).collect();
        assert_eq!(hashes.len(), 100);
    }
}
