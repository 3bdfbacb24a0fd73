//! Two instructions that safe Rust has no words for: the only `unsafe` code of this crate.
//!
//! Both earn it, by `core-bench throughput`: comparing tags this way takes an eighth off the time of a hit whose entry is near (get-hit
//! with a thousand entries), and asking for memory ahead of its use makes an insert that evicts half as fast again (insert-evict with
//! a million). Neither can go wrong for any argument: what is here takes references and numbers only, and everything else in
//! the crate is built without `unsafe`.

#![allow(unsafe_code, reason = "earned by measurement, see above")]

/// Asks for memory ahead of its use, so that several waits for it overlap. Changes nothing but how long things take.
#[inline]
pub(crate) fn expect<T>(place: &T) {
    #[cfg(all(target_arch = "x86_64", not(miri)))]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};

        let first = std::ptr::from_ref(place).cast::<i8>();
        // SAFETY: a prefetch reads nothing and faults on no address. This is the address of a value that is borrowed.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(first) };
        if size_of::<T>() > LINE {
            // SAFETY: as above; and the last byte of the value is within it.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(first.add(size_of::<T>() - 1)) };
        }
    }
    #[cfg(not(all(target_arch = "x86_64", not(miri))))]
    let _ = place;
}

/// Bytes of a cache line.
#[cfg(all(target_arch = "x86_64", not(miri)))]
const LINE: usize = 64;

/// Returns a bit for each number that equals `wanted`.
#[inline]
pub(crate) fn equal(numbers: &[u16; 32], wanted: u16) -> u32 {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: SSE2 is part of every x86-64 processor; without it the target would be another one.
    unsafe {
        equal_sse2(numbers, wanted)
    }
    #[cfg(not(target_arch = "x86_64"))]
    equal_anywhere(numbers, wanted)
}

/// Eight numbers an instruction.
#[cfg(target_arch = "x86_64")]
#[inline]
#[target_feature(enable = "sse2")]
fn equal_sse2(numbers: &[u16; 32], wanted: u16) -> u32 {
    use std::arch::x86_64::{_mm_cmpeq_epi16, _mm_movemask_epi8, _mm_packs_epi16, _mm_set_epi16, _mm_set1_epi16};

    let wanted = _mm_set1_epi16(wanted.cast_signed());
    let (eights, _) = numbers.as_chunks::<8>();
    let equal = |eight: usize| {
        let [a, b, c, d, e, f, g, h] = eights[eight].map(u16::cast_signed);
        _mm_cmpeq_epi16(_mm_set_epi16(h, g, f, e, d, c, b, a), wanted)
    };
    let sixteen = |first: usize| _mm_movemask_epi8(_mm_packs_epi16(equal(first), equal(first + 1))).cast_unsigned();
    sixteen(0) | sixteen(2) << 16
}

#[cfg(any(test, not(target_arch = "x86_64")))]
fn equal_anywhere(numbers: &[u16; 32], wanted: u16) -> u32 {
    // Half at a time, in arithmetic as wide as the numbers are, which compilers turn into a few vector instructions.
    let half = |from: usize| {
        let mut found = 0_u16;
        for at in 0..16 {
            found |= u16::from(numbers[from + at] == wanted) << at;
        }
        u32::from(found)
    };
    half(0) | half(16) << 16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_are_compared_alike_on_every_processor(
            numbers in prop::array::uniform32(prop_oneof![0_u16..4, 0x7FFE_u16..0x8002, 0xFFFD_u16..=0xFFFF]),
            wanted in prop_oneof![0_u16..4, 0x7FFE_u16..0x8002, 0xFFFD_u16..=0xFFFF],
        ) {
            let one_by_one = (0..32).filter(|at| numbers[*at] == wanted).map(|at| 1_u32 << at).sum::<u32>();
            prop_assert_eq!(equal(&numbers, wanted), one_by_one);
            prop_assert_eq!(equal_anywhere(&numbers, wanted), one_by_one);
        }
    }

    #[test]
    fn memory_of_any_size_can_be_expected() {
        expect(&());
        expect(&1_u8);
        expect(&[0_u64; 9]);
        expect(&[0_u8; 4_096]);
    }
}
