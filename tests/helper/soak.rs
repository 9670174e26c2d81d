//! Long loops: kills, crashes and races whose moments are random. The ordinary tiers run a short version of each, and
//! `tests/run.sh soak` a long one: a test that calls [`rounds`] belongs to that tier.

/// The environment variable that selects the long versions.
const SOAK: &str = "JOBLET_TEST_SOAK";

/// How many rounds a loop makes: `short` in the ordinary tiers, where a test takes about ten seconds, `long` in the tier soak.
pub fn rounds(short: usize, long: usize) -> usize {
    let rounds = if std::env::var_os(SOAK).is_some() { long } else { short };
    println!("{rounds} rounds");
    rounds
}
