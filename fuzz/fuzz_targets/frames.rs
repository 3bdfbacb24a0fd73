//! Any bytes in pieces of any size as a stream of frames: a frame is what was sent, and memory follows what has arrived.
//!
//! The first byte of an input is the size of the pieces, the rest is the stream.
//!
//! `cargo fuzz run --sanitizer none frames fuzz/corpus/frames fuzz/seeds/frames`

#![no_main]

#[path = "../../distcache-transport/tests/counting/mod.rs"]
mod counting;

use distcache_transport::fuzzing;
use libfuzzer_sys::fuzz_target;

/// Far more than an input has bytes, so that a length that is believed shows.
const MAX_PAYLOAD: usize = 64 << 20;

/// The read buffer, the memory that a header alone may claim, and what a runtime wants for its first timer.
const UNSENT: usize = (32 + 64 + 8) << 10;

fn run(input: &[u8]) {
    let Some((piece, stream)) = input.split_first() else { return };
    fuzzing::header(MAX_PAYLOAD, stream);
    fuzzing::header(100, stream);
    let piece = usize::from(*piece) + 1;
    let (whole, grown) = counting::growth(|| fuzzing::frames(MAX_PAYLOAD, piece, stream));
    assert!(grown <= UNSENT + 3 * stream.len(), "{grown} bytes held for {} that arrived", stream.len());
    assert_eq!(fuzzing::frames(MAX_PAYLOAD, usize::MAX, stream), whole, "pieces of {piece} bytes change the frames");
}

fuzz_target!(|input: &[u8]| run(input));
