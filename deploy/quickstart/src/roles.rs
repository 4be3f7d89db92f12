//! The three daemons as child processes.

use std::{
    fs::File,
    io::{self, PipeReader},
    process::Stdio,
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use service::admin;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use crate::layout::Layout;

/// The order in which they start; none needs another to be there.
const ROLES: [&str; 3] = ["relay", "gateway-in", "gateway-out"];
/// How long one may take until it is ready.
const START_DEADLINE: Duration = Duration::from_secs(20);
/// How long one may take to stop.
const STOP_DEADLINE: Duration = Duration::from_secs(30);

/// See the module. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Roles {
    children: Vec<(&'static str, Child)>,
    /// Each ends with the last process that holds its pipe.
    logs: Vec<JoinHandle<io::Result<u64>>>,
}

impl Roles {
    /// Starts all three and waits until each says that it is ready. Logs go to `DIR/logs`.
    pub(crate) async fn start(layout: &Layout) -> Result<Self> {
        let logs = layout.dir.join("logs");
        std::fs::create_dir_all(&logs)?;
        let own = std::env::current_exe().context("cannot tell where this program is")?;
        let mut roles = Self { children: Vec::new(), logs: Vec::new() };
        for role in ROLES {
            let path = logs.join(format!("{role}.log"));
            let log = File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
            // The relay may write no file, so its lines go through a pipe, and those of the others with them.
            let (lines, pipe) = io::pipe().context("cannot make a pipe")?;
            let child = Command::new(&own)
                .arg(role)
                .arg("run")
                .arg("--config")
                .arg(layout.config(role))
                .stdin(Stdio::null())
                .stdout(pipe.try_clone()?)
                .stderr(pipe)
                .kill_on_drop(true)
                .spawn()
                .with_context(|| format!("cannot start {role}"))?;
            println!("started {role:<12} pid {:<8} log {}", child.id().unwrap_or_default(), path.display());
            roles.logs.push(thread::spawn(move || keep(lines, log)));
            roles.children.push((role, child));
        }
        for (role, child) in &mut roles.children {
            ready(layout, role, child).await?;
        }
        Ok(roles)
    }

    /// None of them ends by itself.
    pub(crate) async fn first_ended(&mut self) -> Result<()> {
        loop {
            for (role, child) in &mut self.children {
                if let Some(status) = child.try_wait()? {
                    bail!("{role} ended by itself ({status}); its log says why");
                }
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// SIGTERM, then patience.
    pub(crate) async fn stop(mut self) {
        for (role, mut child) in self.children.drain(..).rev() {
            if let Some(pid) =
                child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(rustix::process::Pid::from_raw)
            {
                // One that has gone already needs no signal.
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
            }
            if timeout(STOP_DEADLINE, child.wait()).await.is_err() {
                eprintln!("{role} did not stop in time and is killed");
                let _ = child.kill().await;
            }
        }
        for log in self.logs.drain(..) {
            if !matches!(log.join(), Ok(Ok(_))) {
                eprintln!("a log in DIR/logs is not complete");
            }
        }
    }
}

fn keep(mut lines: PipeReader, mut log: File) -> io::Result<u64> {
    io::copy(&mut lines, &mut log)
}

async fn ready(layout: &Layout, role: &str, child: &mut Child) -> Result<()> {
    let until = Instant::now() + START_DEADLINE;
    let address = layout.admin_port(role);
    loop {
        if let Some(status) = child.try_wait()? {
            let log = layout.dir.join("logs").join(format!("{role}.log"));
            let text = std::fs::read_to_string(&log).unwrap_or_default();
            return Err(anyhow!("{role} did not start ({status}):\n{}", text.trim_end()));
        }
        match admin::fetch_status(address).await {
            Ok(_) => return Ok(()),
            Err(error) if Instant::now() >= until => {
                return Err(error).with_context(|| format!("{role} is not ready after {START_DEADLINE:?}"));
            }
            Err(_) => sleep(Duration::from_millis(50)).await,
        }
    }
}
