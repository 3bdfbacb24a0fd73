//! Until when a certificate is valid, read from its DER: no library here offers it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns the end of a certificate's validity (RFC 5280, section 4.1.2.5), or `None` if it cannot be read.
///
/// ```text
/// Certificate SEQUENCE { tbs SEQUENCE { [0] version, serial, algorithm, issuer, validity SEQUENCE { not before, not after } … } … }
/// ```
pub(super) fn not_after(certificate: &[u8]) -> Option<SystemTime> {
    let certificate = Der(certificate).expect(SEQUENCE)?;
    let mut tbs = Der(Der(certificate).expect(SEQUENCE)?);
    let (tag, _) = tbs.element()?;
    if tag == VERSION {
        tbs.element()?;
    }
    tbs.expect(SEQUENCE)?;
    tbs.expect(SEQUENCE)?;
    let mut validity = Der(tbs.expect(SEQUENCE)?);
    validity.element()?;
    let (tag, text) = validity.element()?;
    time(tag, text)
}

/// Takes elements off the front of DER.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    /// Takes the next element: its tag and its content.
    fn element(&mut self) -> Option<(u8, &'a [u8])> {
        let [tag, first, rest @ ..] = self.0 else { return None };
        let (length, rest) = match *first {
            short @ 0..=0x7f => (usize::from(short), rest),
            // Two bytes hold every length in a certificate that fits a TLS handshake; three are generous.
            long @ 0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(long - 0x80))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (content, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((*tag, content))
    }

    fn expect(&mut self, expected: u8) -> Option<&'a [u8]> {
        self.element().filter(|(tag, _)| *tag == expected).map(|(_, content)| content)
    }
}

/// Reads `YYMMDDHHMMSSZ` or `YYYYMMDDHHMMSSZ`, the two forms that certificates may use.
fn time(tag: u8, text: &[u8]) -> Option<SystemTime> {
    let digits = text.strip_suffix(b"Z")?;
    if !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let year = number(&digits[..2]);
            (if year < 50 { 2000 + year } else { 1900 + year }, &digits[2..])
        }
        (GENERALIZED_TIME, 14) => (number(&digits[..4]), &digits[4..]),
        _ => return None,
    };
    let [month, day, hour, minute, second] = [0, 2, 4, 6, 8].map(|at| number(&rest[at..at + 2]));
    let in_range = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second < 60;
    if year < 1970 || !in_range {
        return None;
    }
    let seconds = ((days_since_epoch(year, month, day) * 24 + hour) * 60 + minute) * 60 + second;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

/// Counts days in the Gregorian calendar, with years that start in March so that a leap day is a year's last.
fn days_since_epoch(year: u64, month: u64, day: u64) -> u64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1 - DAYS_BEFORE_EPOCH
}

const SEQUENCE: u8 = 0x30;
/// The context tag of a version, which old certificates lack.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// From 1 March of the year 0 to 1 January 1970.
const DAYS_BEFORE_EPOCH: u64 = 719_468;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    /// Certificates and when they end, in seconds since 1970, as another library counts them.
    fn certificates() -> impl Iterator<Item = (Vec<u8>, i64)> {
        let ends =
            [(1999, 12, 31), (2000, 2, 29), (2049, 12, 31), (2050, 1, 1), (2096, 3, 1), (2100, 3, 1), (9999, 12, 31)];
        ends.into_iter().map(|(year, month, day)| {
            let mut params = CertificateParams::new(["n1.example.org".to_owned()]).unwrap();
            params.not_before = date_time_ymd(1990, 1, 1);
            params.not_after = date_time_ymd(year, month, day);
            let seconds = params.not_after.unix_timestamp();
            (params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec(), seconds)
        })
    }

    #[test]
    fn end_of_validity_is_read_in_both_forms() {
        for (certificate, seconds) in certificates() {
            let end = not_after(&certificate).unwrap().duration_since(UNIX_EPOCH).unwrap();
            assert_eq!(end.as_secs(), u64::try_from(seconds).unwrap());
        }
    }

    #[test]
    fn hours_minutes_and_seconds_count() {
        let end = UNIX_EPOCH + Duration::from_secs(1_700_000_000);
        assert_eq!(time(UTC_TIME, b"231114221320Z"), Some(end));
        assert_eq!(time(GENERALIZED_TIME, b"20231114221320Z"), Some(end));
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["231314221320Z", "231100221320Z", "231114241320Z", "231114226020Z", "2311142213Z", "23111422132xZ"]
        {
            assert_eq!(time(UTC_TIME, text.as_bytes()), None, "{text}");
        }
        assert_eq!(time(UTC_TIME, b"231114221320+"), None);
        assert_eq!(time(GENERALIZED_TIME, b"19691231235959Z"), None);
        assert_eq!(time(0x04, b"231114221320Z"), None);
    }

    #[test]
    fn broken_certificates_are_none_and_never_panic() {
        let (certificate, _) = certificates().next().unwrap();
        for end in 0..certificate.len() {
            assert_eq!(not_after(&certificate[..end]), None, "{end} bytes");
        }
        for at in 0..certificate.len().min(400) {
            for bit in 0..8 {
                let mut flipped = certificate.clone();
                flipped[at] ^= 1 << bit;
                let _ = not_after(&flipped);
            }
        }
        assert_eq!(not_after(&[0x30, 0x80, 0, 0]), None, "no length");
        assert_eq!(not_after(&[0x30, 0x84, 0, 0, 0, 0]), None, "a length of four bytes");
    }
}
