//! Inputs for the fuzz tests: the files of `tests/corpus`, changed at random.

use std::path::Path;
use std::time::{Duration, Instant};

/// The number of inputs for one fuzz test, unless `VESTNIK_FUZZ_SECONDS` sets a duration.
const CASES: usize = 200;
/// The highest number of random changes to one input.
const MOST_EDITS: usize = 5;
/// Strings that a random change may insert into an input.
const TOKENS: [&str; 16] = [
    "\0",
    "\"",
    "\\",
    "{",
    "}}",
    "[[[[[[[[",
    "\r\n",
    "\n\n",
    "-1",
    "1e400",
    "99999999999999999999",
    "null",
    "\u{202e}",
    "𝕏",
    "%00",
    "' or 1=1 --",
];

/// An iterator over randomly changed inputs for one fuzz test.
pub struct Corpus {
    pub inputs: Vec<Vec<u8>>,
    pub random: fastrand::Rng,
    until: Option<Instant>,
    left: usize,
}

impl Corpus {
    pub fn of(target: &str) -> Self {
        let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(target);
        let mut files: Vec<_> = std::fs::read_dir(files)
            .unwrap()
            .map(|file| file.unwrap().path())
            .collect();
        files.sort();
        let number = |name: &str| {
            std::env::var(name)
                .ok()
                .map(|number| number.parse::<u64>().expect(name))
        };
        let seed = number("VESTNIK_FUZZ_SEED").unwrap_or_else(|| fastrand::u64(..));
        println!("{target}: VESTNIK_FUZZ_SEED={seed}");
        Self {
            inputs: files.iter().map(|file| std::fs::read(file).unwrap()).collect(),
            random: fastrand::Rng::with_seed(seed),
            until: number("VESTNIK_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds)),
            left: CASES,
        }
    }

    fn any(&mut self) -> Vec<u8> {
        self.random.choice(&self.inputs).unwrap().clone()
    }

    fn place(&mut self, input: &[u8]) -> usize {
        self.random.usize(..=input.len())
    }

    fn edit(&mut self, input: &mut Vec<u8>) {
        let (one, other) = (self.place(input), self.place(input));
        let (from, to) = (one.min(other), one.max(other));
        match self.random.u8(..7) {
            0 => drop(input.drain(from..to)),
            1 => drop(input.splice(from..from, self.random.choice(TOKENS).unwrap().bytes())),
            2 => {
                let part = input[from..to].to_vec();
                drop(input.splice(to..to, part));
            }
            3 => {
                let more = self.any();
                let (start, end) = (self.place(&more), self.place(&more));
                drop(input.splice(from..to, more[start.min(end)..start.max(end)].iter().copied()));
            }
            4 if from < input.len() => input[from] = self.random.u8(..),
            5 if from < input.len() => input[from] ^= 1 << self.random.u8(..8),
            6 => drop(input.splice(from..from, std::iter::repeat_n(b'9', self.random.usize(..400)))),
            _ => input.truncate(from),
        }
    }

    /// The next input as text. Bytes that are not UTF-8 are replaced.
    pub fn text(&mut self) -> Option<String> {
        self.next().map(|input| String::from_utf8_lossy(&input).into_owned())
    }
}

impl Iterator for Corpus {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        match self.until {
            Some(until) if Instant::now() >= until => return None,
            None if self.left == 0 => return None,
            _ => self.left = self.left.saturating_sub(1),
        }
        let mut input = self.any();
        for _ in 0..self.random.usize(..=MOST_EDITS) {
            self.edit(&mut input);
        }
        Some(input)
    }
}
