//! The formats that traces are written in.

use std::str::FromStr;

use anyhow::{Context, bail};

use super::Request;

/// How the requests of a trace are written down, once it is decompressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// Lines of `first count ignored ignored`, which stand for `count` keys in a row.
    Arc,
    /// Big-endian integers of 4 bytes.
    BigEndian32,
    /// Big-endian integers of 8 bytes.
    BigEndian64,
    /// One integer a line; lines with a star are marks, not requests.
    Lines,
    /// Lines of `time key size`.
    Sized,
}

impl Format {
    pub(super) fn parse(self, bytes: &[u8]) -> anyhow::Result<Vec<Request>> {
        match self {
            Self::Arc => arc(text(bytes)?),
            Self::BigEndian32 => big_endian(bytes, |word| u32::from_be_bytes(word).into()),
            Self::BigEndian64 => big_endian(bytes, u64::from_be_bytes),
            Self::Lines => lines(text(bytes)?),
            Self::Sized => sized(text(bytes)?),
        }
    }
}

fn text(bytes: &[u8]) -> anyhow::Result<&str> {
    std::str::from_utf8(bytes).context("it is not text")
}

fn arc(text: &str) -> anyhow::Result<Vec<Request>> {
    let mut requests = Vec::new();
    for (at, line) in filled_lines(text) {
        let mut fields = line.split_whitespace();
        let (first, count): (u64, u64) = (field(&mut fields, at)?, field(&mut fields, at)?);
        requests.extend((first..first.saturating_add(count)).map(unsized_request));
    }
    Ok(requests)
}

fn big_endian<const N: usize>(bytes: &[u8], key: fn([u8; N]) -> u64) -> anyhow::Result<Vec<Request>> {
    let (words, rest) = bytes.as_chunks();
    if !rest.is_empty() {
        bail!("{} bytes are left after integers of {N} bytes", rest.len());
    }
    Ok(words.iter().map(|word| unsized_request(key(*word))).collect())
}

fn lines(text: &str) -> anyhow::Result<Vec<Request>> {
    let requests = filled_lines(text).filter(|(_, line)| !line.contains('*'));
    requests.map(|(at, line)| Ok(unsized_request(field(&mut line.split_whitespace(), at)?))).collect()
}

fn sized(text: &str) -> anyhow::Result<Vec<Request>> {
    let request = |(at, line): (usize, &str)| {
        let mut fields = line.split_whitespace().skip(1);
        Ok(Request { key: field(&mut fields, at)?, size: field(&mut fields, at)? })
    };
    filled_lines(text).map(request).collect()
}

fn filled_lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty())
}

fn field<'t, T: FromStr>(fields: &mut impl Iterator<Item = &'t str>, line: usize) -> anyhow::Result<T> {
    let field = fields.next().with_context(|| format!("line {} is too short", line + 1))?;
    field.parse().ok().with_context(|| format!("line {} holds {field:?} where a number should be", line + 1))
}

const fn unsized_request(key: u64) -> Request {
    Request { key, size: 1 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(format: Format, bytes: &[u8]) -> Vec<u64> {
        format.parse(bytes).unwrap().iter().map(|request| request.key).collect()
    }

    #[test]
    fn an_arc_line_stands_for_as_many_keys_as_it_says() {
        assert_eq!(keys(Format::Arc, b"7 3 0 0\n100 1 0 1\n"), [7, 8, 9, 100]);
        assert!(keys(Format::Arc, b"7 0 0 0\n").is_empty());
    }

    #[test]
    fn binary_integers_are_big_endian() {
        assert_eq!(keys(Format::BigEndian32, &[0, 0, 1, 2, 255, 0, 0, 0]), [258, 0xff00_0000]);
        assert_eq!(keys(Format::BigEndian64, &[0, 0, 0, 1, 0, 0, 0, 2]), [(1 << 32) + 2]);
        assert!(Format::BigEndian32.parse(&[1, 2, 3]).is_err());
    }

    #[test]
    fn lines_with_a_star_and_empty_ones_are_no_requests() {
        assert_eq!(keys(Format::Lines, b"5\r\n*\n 6 \n\n5"), [5, 6, 5]);
    }

    #[test]
    fn a_sized_line_has_the_key_in_the_middle() {
        let requests = Format::Sized.parse(b"1 20 300\n2 21 301\n").unwrap();
        assert_eq!(requests, [Request { key: 20, size: 300 }, Request { key: 21, size: 301 }]);
    }

    #[test]
    fn a_line_that_is_no_number_or_too_short_is_an_error_with_its_number() {
        let error = Format::Lines.parse(b"1\nx\n").unwrap_err();
        assert!(error.to_string().contains("line 2"), "{error}");
        let error = Format::Sized.parse(b"1 2\n").unwrap_err();
        assert!(error.to_string().contains("line 1"), "{error}");
    }
}
