//! The attempts of one webhook: when they are made, and when it is given up (webhooks 6).
//!
//! The same bytes every time. Its pauses count as being sent: whoever limits how many are sent at
//! once limits these too.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use crate::app::webhook::{Endpoint, EndpointSettings};

use super::client::{Failed, Post, Sealed};

/// How much longer there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Running,
    /// The process ends: nothing waits any longer than it must.
    Ending,
    /// Nothing is sent any more.
    Over,
}

/// What became of a webhook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    Sent,
    Expired,
}

/// Who is told of the attempts, and says where the next one goes.
pub(super) trait Attempts {
    fn endpoint(&self) -> Arc<Endpoint>;
    fn on_failure(&self, failed: Failed);
}

/// Posts until the endpoint takes it or it is too old. No attempt begins at or after that age, and
/// none is waited for beyond it. When the process ends, what waits is tried at once, and from the
/// first pause on again.
pub(super) async fn deliver(
    post: &impl Post,
    attempts: &impl Attempts,
    sealed: &Sealed,
    created: Instant,
    mut phase: watch::Receiver<Phase>,
) -> Fate {
    let mut failures = 0;
    let mut hurried = false;
    loop {
        let endpoint = attempts.endpoint();
        let settings = &endpoint.settings;
        let expires = created + settings.retry_for;
        let left = expires.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Fate::Expired;
        }
        let timeout = settings.timeout.min(left);
        match post.post(&endpoint, sealed, timeout).await {
            Ok(()) => return Fate::Sent,
            Err(failed) => attempts.on_failure(failed),
        }
        let next = Instant::now() + pause(settings, failures, chance());
        failures += 1;
        if next >= expires {
            return Fate::Expired;
        }
        tokio::select! {
            () = sleep_until(next) => {}
            Ok(_) = phase.wait_for(|&phase| phase != Phase::Running), if !hurried => {
                hurried = true;
                failures = 0;
            }
        }
    }
}

/// The pause after so many failures before the last one. `chance` is from -1 to 1.
fn pause(settings: &EndpointSettings, failures: u32, chance: f64) -> Duration {
    let doubled = 2_u32.saturating_pow(failures);
    let pause = settings.retry_first.saturating_mul(doubled);
    let jitter = f64::from(settings.retry_jitter_percent) / 100.0 * chance;
    pause.min(settings.retry_max).mul_f64(1.0 + jitter)
}

/// From -1 to 1. Endpoints that failed together should not be tried together again.
fn chance() -> f64 {
    let bits = getrandom::u32().unwrap_or(u32::MAX / 2);
    f64::from(bits) / f64::from(u32::MAX) * 2.0 - 1.0
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use hyper::HeaderMap;
    use hyper::header::HeaderValue;
    use url::Url;

    use super::*;
    use crate::app::webhook::WebhookKinds;
    use crate::side::webhook::counters::Failure;

    /// Answers each attempt after a while, and notes when it began, in milliseconds.
    struct Receiver {
        began: Instant,
        answer: fn(usize) -> (Duration, Result<(), Failure>),
        settings: EndpointSettings,
        seen: RefCell<Vec<u64>>,
        failures: RefCell<Vec<Failure>>,
    }

    const FAILED: Result<(), Failure> = Err(Failure::Status(500));

    impl Receiver {
        fn new(
            settings: EndpointSettings,
            answer: fn(usize) -> (Duration, Result<(), Failure>),
        ) -> Self {
            Self {
                began: Instant::now(),
                answer,
                settings,
                seen: RefCell::default(),
                failures: RefCell::default(),
            }
        }

        async fn deliver(&self, phase: watch::Receiver<Phase>) -> Fate {
            let sealed = Sealed {
                key: HeaderValue::from_static("k"),
                signature: HeaderValue::from_static("s"),
                body: Default::default(),
            };
            deliver(self, self, &sealed, self.began, phase).await
        }

        fn elapsed_ms(&self) -> u64 {
            self.began.elapsed().as_millis() as u64
        }
    }

    impl Post for Receiver {
        async fn post(&self, _: &Endpoint, _: &Sealed, timeout: Duration) -> Result<(), Failed> {
            let place = self.seen.borrow().len();
            self.seen.borrow_mut().push(self.elapsed_ms());
            let (after, answer) = (self.answer)(place);
            tokio::time::sleep(after.min(timeout)).await;
            let answer = if after < timeout {
                answer
            } else {
                Err(Failure::Timeout)
            };
            answer.map_err(Into::into)
        }
    }

    impl Attempts for Receiver {
        fn endpoint(&self) -> Arc<Endpoint> {
            Arc::new(Endpoint {
                url: Url::parse("http://a.example/").unwrap(),
                kinds: WebhookKinds::NONE,
                channel_prefix: "".into(),
                channel_suffix: "".into(),
                headers: HeaderMap::new(),
                settings: self.settings.clone(),
            })
        }

        fn on_failure(&self, failed: Failed) {
            self.failures.borrow_mut().push(failed.why);
        }
    }

    fn without_jitter() -> EndpointSettings {
        EndpointSettings {
            retry_jitter_percent: 0,
            ..EndpointSettings::default()
        }
    }

    fn running() -> watch::Receiver<Phase> {
        watch::channel(Phase::Running).1
    }

    #[test]
    fn pauses_double_up_to_the_longest_and_differ_by_the_jitter() {
        let settings = EndpointSettings::default();
        let secs = |failures, chance| pause(&settings, failures, chance).as_secs_f64();
        let expected = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0];
        for (failures, expected) in (0..).zip(expected) {
            assert_eq!(secs(failures, 0.0), expected);
            assert_eq!(secs(failures, 1.0), expected * 1.2);
            assert_eq!(secs(failures, -1.0), expected * 0.8);
        }
        assert_eq!(secs(u32::MAX, 1.0), 72.0);
        let chances: Vec<_> = (0..100).map(|_| chance()).collect();
        assert!(chances.iter().all(|chance| (-1.0..=1.0).contains(chance)));
        assert!(chances.iter().any(|&c| c < 0.0) && chances.iter().any(|&c| c > 0.0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_webhook_is_retried_on_schedule_for_five_minutes() {
        let receiver = Receiver::new(without_jitter(), |_| (Duration::ZERO, FAILED));
        assert_eq!(receiver.deliver(running()).await, Fate::Expired);
        let secs: Vec<_> = receiver.seen.borrow().iter().map(|ms| ms / 1_000).collect();
        assert_eq!(secs, [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]);
        assert!(receiver.elapsed_ms() < 300_000);
        assert_eq!(receiver.failures.borrow().len(), 10);
    }

    #[tokio::test(start_paused = true)]
    async fn no_attempt_begins_or_is_waited_for_after_five_minutes_whatever_chance_says() {
        for _ in 0..200 {
            let never = |_| (Duration::MAX, Ok(()));
            let receiver = Receiver::new(EndpointSettings::default(), never);
            assert_eq!(receiver.deliver(running()).await, Fate::Expired);
            let seen = receiver.seen.borrow();
            assert!((8..=12).contains(&seen.len()), "{seen:?}");
            assert!(seen.iter().all(|&ms| ms < 300_000), "{seen:?}");
            assert!(receiver.elapsed_ms() <= 300_000);
            let failures = receiver.failures.borrow();
            assert!(failures.iter().all(|&f| f == Failure::Timeout));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_is_abandoned_after_its_timeout_and_made_again() {
        let receiver = Receiver::new(without_jitter(), |place| match place {
            0 => (Duration::from_secs(3_600), Ok(())),
            _ => (Duration::from_millis(3_999), Ok(())),
        });
        assert_eq!(receiver.deliver(running()).await, Fate::Sent);
        assert_eq!(*receiver.seen.borrow(), [0, 5_000]);
        assert_eq!(receiver.elapsed_ms(), 8_999);
        assert_eq!(*receiver.failures.borrow(), [Failure::Timeout]);
    }

    #[tokio::test(start_paused = true)]
    async fn every_status_but_success_is_retried() {
        const STATUSES: [u16; 8] = [301, 302, 400, 404, 410, 429, 500, 503];
        let receiver = Receiver::new(without_jitter(), |place| match STATUSES.get(place) {
            Some(&status) => (Duration::ZERO, Err(Failure::Status(status))),
            None => (Duration::ZERO, Ok(())),
        });
        assert_eq!(receiver.deliver(running()).await, Fate::Sent);
        assert_eq!(receiver.seen.borrow().len(), STATUSES.len() + 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_when_the_process_ends_is_tried_at_once_and_often() {
        let (phase, phase_seen) = watch::channel(Phase::Running);
        let receiver = Receiver::new(without_jitter(), |place| match place {
            0..9 => (Duration::ZERO, FAILED),
            _ => (Duration::ZERO, Ok(())),
        });
        let end = async {
            tokio::time::sleep(Duration::from_secs(40)).await;
            phase.send(Phase::Ending).unwrap();
        };
        let (fate, ()) = tokio::join!(receiver.deliver(phase_seen), end);
        assert_eq!(fate, Fate::Sent);
        let secs: Vec<_> = receiver.seen.borrow().iter().map(|ms| ms / 1_000).collect();
        assert_eq!(secs, [0, 1, 3, 7, 15, 31, 40, 41, 43, 47]);
    }
}
