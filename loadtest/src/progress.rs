//! How far a run is, for a person at a terminal. Where standard error is none,
//! nothing at all.

use std::{io::IsTerminal, time::Duration};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use tokio::{task::JoinHandle, time::Instant};

/// Between two looks; faster than an eye asks for only costs.
const TICK: Duration = Duration::from_millis(250);

/// A bar of time with a few words; gone from the screen when it is dropped.
#[derive(Debug)]
pub struct Progress(Option<(ProgressBar, JoinHandle<()>)>);

impl Progress {
    /// Of a run of `length`, or of one without an end; `words` say more at each
    /// look. Must be called within the runtime.
    #[must_use]
    pub fn over(length: Option<Duration>, words: impl Fn() -> String + Send + 'static) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let (bar, template) = match length {
            Some(length) => (
                ProgressBar::new(length.as_secs()),
                "{wide_bar} {pos}/{len} s  {msg}",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {pos} s  {msg}"),
        };
        bar.set_draw_target(ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        let shown = bar.clone();
        let began = Instant::now();
        let drawing = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            loop {
                ticks.tick().await;
                shown.set_position(began.elapsed().as_secs());
                shown.set_message(words());
            }
        });
        Self(Some((bar, drawing)))
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some((bar, drawing)) = self.0.take() {
            drawing.abort();
            bar.finish_and_clear();
        }
    }
}
