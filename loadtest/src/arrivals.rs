//! When each of a crowd comes: at fixed times, whatever the server does (an open
//! loop). What one of them waits for is counted from its time, not from when it got
//! its turn, so that a server which keeps everybody waiting can't hide it.

use std::time::Duration;

use anyhow::{Result, bail};

#[derive(Debug, Clone, Copy, Default, clap::Args)]
pub struct ArrivalArgs {
    /// Spread the arrivals evenly over this time
    #[arg(long, default_value_t = 0, value_name = "MS")]
    pub ramp_ms: u64,
    /// So many arrive each second, in place of --ramp-ms
    #[arg(long, value_name = "R", conflicts_with = "ramp_ms")]
    pub arrivals_per_second: Option<f64>,
}

/// The times of `count` arrivals, from the first one's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Arrivals {
    count: u32,
    /// From the first to the one that would follow the last.
    length: Duration,
}

impl ArrivalArgs {
    /// # Errors
    /// A rate that is none.
    pub fn of(&self, count: u32) -> Result<Arrivals> {
        let length = match self.arrivals_per_second {
            None => Duration::from_millis(self.ramp_ms),
            Some(rate) if (0.01..=1e6).contains(&rate) => {
                Duration::from_secs_f64(f64::from(count) / rate)
            }
            Some(_) => bail!(
                "--arrivals-per-second is 0.01 to 1000000, for example --arrivals-per-second 200"
            ),
        };
        Ok(Arrivals { count, length })
    }
}

impl Arrivals {
    #[must_use]
    pub fn due(self, index: u32) -> Duration {
        self.length
            .mul_f64(f64::from(index) / f64::from(self.count.max(1)))
    }

    #[must_use]
    pub fn length(self) -> Duration {
        self.length
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(ramp_ms: u64, rate: Option<f64>) -> ArrivalArgs {
        ArrivalArgs {
            ramp_ms,
            arrivals_per_second: rate,
        }
    }

    #[test]
    fn arrivals_are_even_over_a_ramp_or_at_a_rate() {
        let ramp = args(1_000, None).of(4).unwrap();
        let due: Vec<_> = (0..4).map(|index| ramp.due(index).as_millis()).collect();
        assert_eq!(due, [0, 250, 500, 750]);
        let rate = args(0, Some(20.0)).of(100).unwrap();
        assert_eq!(rate.length(), Duration::from_secs(5));
        assert_eq!(rate.due(1), Duration::from_millis(50));
        assert_eq!(args(0, None).of(3).unwrap().due(2), Duration::ZERO);
    }

    #[test]
    fn a_wrong_rate_names_itself_and_an_example() {
        for rate in [0.0, -1.0, f64::NAN, 2e6] {
            let line = args(0, Some(rate)).of(1).unwrap_err().to_string();
            assert!(line.contains("for example --arrivals-per-second"), "{line}");
        }
    }
}
