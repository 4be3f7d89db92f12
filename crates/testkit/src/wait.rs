use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Waits until something is true that sends no message when it becomes so (a file, a counter of another process), and
/// says whether it did within the limit. Where there is a message, wait for that.
pub async fn eventually<C>(limit: Duration, mut condition: C) -> bool
where
    C: AsyncFnMut() -> bool,
{
    let end = Instant::now() + limit;
    let mut pause = Duration::from_millis(1);
    loop {
        if condition().await {
            return true;
        }
        let now = Instant::now();
        if now >= end {
            return false;
        }
        sleep(pause.min(end - now)).await;
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_condition_is_asked_until_it_holds_or_the_limit_is_over() {
        let mut asked = 0;
        let held = eventually(Duration::from_secs(10), async || {
            asked += 1;
            asked == 4
        });
        assert!(held.await);
        assert_eq!(asked, 4);
        assert!(!eventually(Duration::from_millis(5), async || false).await);
    }
}
