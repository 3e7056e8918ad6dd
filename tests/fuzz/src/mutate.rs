//! Mutations that are the same in each run: what `cargo test` tries besides the seeds.

/// Pseudo-random numbers (xorshift64*), the same for the same start.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// Numbers from that start on.
    pub fn new(start: u64) -> Self {
        Self(start | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 when there is none.
    pub fn below(&mut self, end: usize) -> usize {
        // The upper half: the lower bits of this generator are the weaker ones.
        (self.next() >> 32) as usize % end.max(1)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).copied()
    }
}

/// Numbers at which something ends.
const EDGES: [u64; 12] = [
    0,
    1,
    0xff,
    0xfff,
    0x1000,
    0x10_0000,
    u32::MAX as u64,
    1 << 32,
    1 << 46,
    (1 << 52) - 1,
    i64::MAX as u64,
    u64::MAX,
];
/// Longest input that mutations make.
const MAX_BYTES: usize = 4096;

/// A mutation of one of `seeds`: a few changes, some of which take parts from another seed.
pub fn mutated(rng: &mut Rng, seeds: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = seeds.get(rng.below(seeds.len())).cloned().unwrap_or_default();
    for _ in 0..=rng.below(4) {
        let donor = seeds.get(rng.below(seeds.len())).map_or(&[][..], Vec::as_slice);
        change(rng, &mut bytes, donor);
    }
    bytes.truncate(MAX_BYTES);
    bytes
}

fn change(rng: &mut Rng, bytes: &mut Vec<u8>, donor: &[u8]) {
    let at = rng.below(bytes.len());
    let len = 1 + rng.below(16);
    match rng.below(8) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << rng.below(8),
        1 if !bytes.is_empty() => bytes[at] = rng.next() as u8,
        2 if !bytes.is_empty() => {
            bytes[at] = bytes[at].wrapping_add(if rng.below(2) == 0 { 1 } else { 0xff })
        }
        3 => {
            let edge = rng.pick(&EDGES).unwrap_or(0).to_le_bytes();
            let width = 1 << rng.below(4);
            overwrite(bytes, at, &edge[..width]);
        }
        4 => drop(bytes.drain(at..(at + len).min(bytes.len()))),
        5 => bytes.truncate(at),
        6 => {
            let part = part(rng, donor, len * 4);
            bytes.splice(at..at, part.iter().copied());
        }
        _ => {
            let part = part(rng, donor, len);
            overwrite(bytes, at, part);
        }
    }
}

fn part<'d>(rng: &mut Rng, donor: &'d [u8], len: usize) -> &'d [u8] {
    let from = rng.below(donor.len());
    &donor[from..(from + len).min(donor.len())]
}

fn overwrite(bytes: &mut [u8], at: usize, with: &[u8]) {
    bytes[at..].iter_mut().zip(with).for_each(|(byte, new)| *byte = *new);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mutations_repeat_from_the_same_start_and_differ_from_each_other() {
        let seeds = [vec![1, 2, 3, 4], b"some text".to_vec()];
        let run = |start| {
            let mut rng = Rng::new(start);
            (0..200).map(|_| mutated(&mut rng, &seeds)).collect::<Vec<_>>()
        };
        assert_eq!(run(1), run(1));
        let mut all = run(1);
        all.sort();
        all.dedup();
        assert!(all.len() > 150, "{}", all.len());
    }

    #[test]
    fn nothing_is_mutated_into_something() {
        let mut rng = Rng::new(7);
        (0..1000).for_each(|_| drop(mutated(&mut rng, &[])));
        (0..1000).for_each(|_| drop(mutated(&mut rng, &[vec![]])));
    }
}
