//! Checked reading and writing of hand-laid messages: little-endian integers, length-prefixed text.
//!
//! A [`Reader`] never allocates and never reads past its slice: a length is compared with what is there before it is used.

use std::str;

use bytes::{BufMut, BytesMut};

/// Why bytes from a peer could not be read. The sender is at fault; nothing was applied; a retry does not help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message ends before the field does.
    #[error("message ends inside a field")]
    Truncated,
    /// Bytes are left after the last field.
    #[error("message has trailing bytes")]
    Trailing,
    /// A field that must be UTF-8 is not.
    #[error("text is not UTF-8")]
    NotUtf8,
    /// A field has a value its type does not know.
    #[error("field {0} has an unknown value")]
    UnknownValue(&'static str),
    /// A field breaks its limit.
    #[error("field {0} is out of range")]
    OutOfRange(&'static str),
}

/// Reads fields off the front of a message.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) const fn remaining(&self) -> usize {
        self.rest.len()
    }

    pub(crate) fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (field, rest) = self.rest.split_at_checked(len).ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(field)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (field, rest) = self.rest.split_first_chunk::<N>().ok_or(DecodeError::Truncated)?;
        self.rest = rest;
        Ok(*field)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.array::<1>()?[0])
    }

    pub(crate) fn u16(&mut self) -> Result<u16, DecodeError> {
        Ok(u16::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub(crate) fn octets<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.array()
    }

    /// Text behind a one-byte length.
    pub(crate) fn short_text(&mut self) -> Result<&'a str, DecodeError> {
        let len = usize::from(self.u8()?);
        self.text(len)
    }

    /// Text behind a four-byte length.
    pub(crate) fn long_text(&mut self) -> Result<&'a str, DecodeError> {
        let len = self.length()?;
        self.text(len)
    }

    /// Bytes behind a four-byte length.
    pub(crate) fn long_bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.length()?;
        self.bytes(len)
    }

    /// A count of items that each take at least `min_item_bytes`: refused when the rest could not hold them, so a
    /// caller may reserve for it.
    pub(crate) fn count(&mut self, min_item_bytes: usize) -> Result<usize, DecodeError> {
        let count = self.length()?;
        if count > self.remaining() / min_item_bytes.max(1) {
            return Err(DecodeError::Truncated);
        }
        Ok(count)
    }

    pub(crate) const fn finish(self) -> Result<(), DecodeError> {
        if self.rest.is_empty() { Ok(()) } else { Err(DecodeError::Trailing) }
    }

    fn length(&mut self) -> Result<usize, DecodeError> {
        usize::try_from(self.u32()?).map_err(|_| DecodeError::OutOfRange("length"))
    }

    fn text(&mut self, len: usize) -> Result<&'a str, DecodeError> {
        str::from_utf8(self.bytes(len)?).map_err(|_| DecodeError::NotUtf8)
    }
}

/// Writes text behind a one-byte length. Callers hold names to 255 bytes when they are made.
pub(crate) fn put_short_text(out: &mut BytesMut, text: &str) {
    let len = u8::try_from(text.len()).expect("names are limited to 255 bytes where they are made");
    out.put_u8(len);
    out.put_slice(text.as_bytes());
}

/// Writes bytes behind a four-byte length. Keys and values are far below 4 GiB: the frame limit holds them.
pub(crate) fn put_long_bytes(out: &mut BytesMut, bytes: &[u8]) {
    let len = u32::try_from(bytes.len()).expect("keys and values are held below the frame limit");
    out.put_u32_le(len);
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_the_rest_cannot_hold_is_refused_before_anything_is_reserved() {
        let mut reader = Reader::new(&[0xff, 0xff, 0xff, 0xff, 1, 2]);
        assert_eq!(reader.count(1), Err(DecodeError::Truncated));
    }

    #[test]
    fn text_longer_than_the_message_is_truncated_not_a_panic() {
        assert_eq!(Reader::new(&[9, b'a']).short_text(), Err(DecodeError::Truncated));
        assert_eq!(Reader::new(&[2, 0xc3, 0x28]).short_text(), Err(DecodeError::NotUtf8));
    }

    #[test]
    fn trailing_bytes_are_refused() {
        let mut reader = Reader::new(&[1, 2]);
        assert_eq!(reader.u8(), Ok(1));
        assert_eq!(reader.finish(), Err(DecodeError::Trailing));
    }
}
