//! Asking every shard how it is, for a bounded time.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use crate::net::mesh::MeshSender;
use crate::shard::message::ShardMessage;
use crate::shard::sample::Sample;

/// A shard that has not answered by then is left out.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// What the shards said.
#[derive(Debug)]
pub(super) struct Samples {
    /// In the order of shards.
    pub shards: Vec<Sample>,
    /// How many did not answer: their inbox is full, or they stand still.
    pub unanswered: usize,
}

/// Asks all shards at once.
pub(super) async fn sample(mesh: &MeshSender<ShardMessage>) -> Samples {
    let ask = |target: usize| {
        let (to, answer) = oneshot::channel();
        let asked = mesh.push(target, ShardMessage::Sample(to)).is_ok();
        mesh.wake(target);
        asked.then_some(answer)
    };
    let answers: Vec<_> = (0..mesh.shards()).map(ask).collect();
    let deadline = Instant::now() + ANSWER_MAX;
    let mut shards = Vec::with_capacity(answers.len());
    for answer in answers.into_iter().flatten() {
        if let Ok(Ok(sample)) = timeout_at(deadline, answer).await {
            shards.push(*sample);
        }
    }
    let unanswered = mesh.shards() - shards.len();
    Samples { shards, unanswered }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::mesh::mesh;

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_does_not_answer_is_left_out_after_a_second() {
        let ends = mesh::<ShardMessage>(2, 1).expect("two inboxes");
        // One has no room for the question, one takes it and says nothing.
        let full = ends[0].sender();
        assert!(
            full.push(
                0,
                ShardMessage::Drain {
                    until: Default::default()
                }
            )
            .is_ok()
        );
        let began = Instant::now();
        let samples = sample(&full).await;
        assert_eq!((samples.shards.len(), samples.unanswered), (0, 2));
        assert_eq!(began.elapsed(), ANSWER_MAX);
        assert!(matches!(ends[1].pop(), Some(ShardMessage::Sample(to)) if to.is_closed()));
    }
}
