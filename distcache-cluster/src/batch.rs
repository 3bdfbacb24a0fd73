//! Batches of keys or entries, cut into pieces that fit in a frame each.

/// Cuts a batch into pieces that fit in a frame each.
pub(crate) fn chunks<T>(items: &[T], len: impl Fn(&T) -> usize) -> impl Iterator<Item = &[T]> {
    let mut rest = items;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = rest.iter().take(MAX_BATCH_KEYS).take_while(|item| {
            bytes += len(item);
            bytes <= MAX_BATCH_BYTES
        });
        // One that fills a frame alone goes alone: the engine's limits keep it below the frame's.
        let count = fitting.count().max(1).min(rest.len());
        let (chunk, tail) = rest.split_at(count);
        rest = tail;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Keys in one batch frame: more go in several frames, so that one caller does not hold a peer for long.
pub(crate) const MAX_BATCH_KEYS: usize = 4_096;
/// Bytes of keys and values in one batch frame, half of the smallest frame limit. A single larger entry goes alone.
const MAX_BATCH_BYTES: usize = 512 * 1_024;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_keep_order_and_stay_within_count_and_bytes() {
        let items: Vec<usize> = (0..10_000).collect();
        let cut: Vec<_> = chunks(&items, |_| 1).collect();
        assert!(cut.iter().all(|chunk| chunk.len() <= MAX_BATCH_KEYS));
        assert_eq!(cut.concat(), items);

        let heavy = [MAX_BATCH_BYTES / 2, MAX_BATCH_BYTES, 1, MAX_BATCH_BYTES * 2, 1];
        let cut: Vec<_> = chunks(&heavy, |bytes| *bytes).map(<[usize]>::len).collect();
        assert_eq!(cut, [1, 1, 1, 1, 1]);
        assert_eq!(chunks::<usize>(&[], |_| 1).count(), 0);
    }
}
