use std::{
    io::{self, BufRead, BufReader},
    path::Path,
    process::{ExitCode, Stdio},
    thread,
    time::Duration,
};

use hitscope_base::{
    Explain, Failure,
    manager::{State, tell_manager},
};
use hitscope_cli::Serve;
use hitscope_config::{Config, Sources};
use tokio::{
    io::AsyncWriteExt,
    process::Command,
    signal::unix::{SignalKind, signal},
    sync::{mpsc, oneshot},
};

/// This program.
const PROGRAM: &str = "/proc/self/exe";

/// A server that does not end in order is cut off after this long.
const GRACE: Duration = Duration::from_secs(1);

/// `hitscope serve`
pub fn serve(arguments: &Serve) -> Result<ExitCode, Failure> {
    if arguments.supervised {
        return serve_for_run();
    }
    let (place, listen) = (arguments.place.clone(), arguments.listen.clone());
    let read = move || place.sources(listen.as_deref());
    let config = read()?.valid()?;
    super::require_folder(&config.data_dir)?;
    let folder = config.data_dir.display().to_string();
    let (reload, reloads) = mpsc::unbounded_channel();
    let hangup = move || {
        // It is received until the server ends.
        let _ = reload.send(read());
    };
    serve_until(config, reloads, hangup, std::future::pending(), move |address| {
        println!("the page is at http://{address}");
        println!("the history is in {folder}");
        tell_manager(State::Ready);
    })
}

/// The server that `hitscope run` started: the configuration is the first line of stdin, and it serves until stdin ends.
fn serve_for_run() -> Result<ExitCode, Failure> {
    let mut pipe = BufReader::new(io::stdin());
    let mut line = String::new();
    pipe.read_line(&mut line).explain("cannot read the configuration from `hitscope run`")?;
    let sources: Sources = serde_json::from_str(&line).explain_help(
        "cannot read the configuration from `hitscope run`",
        "use `hitscope serve` without --supervised",
    )?;
    let mut config = sources.resolve()?;
    if std::fs::read_dir(&config.data_dir).is_err() {
        // A folder above is closed to this user; but the data folder is where it was started.
        config.data_dir = Path::new("/proc/self/cwd").into();
    }
    let (end, ended) = oneshot::channel();
    let (reload, reloads) = mpsc::unbounded_channel();
    thread::spawn(move || {
        // A line for each new configuration, until `run` ends, in whatever way.
        for line in pipe.lines() {
            let sources = line.explain("cannot read the configuration from `hitscope run`").and_then(|line| {
                serde_json::from_str(&line).explain("cannot read the configuration from `hitscope run`")
            });
            // It is received until the server ends.
            let _ = reload.send(sources);
        }
        let _ = end.send(());
    });
    // `hitscope run` is who is told to reload.
    serve_until(config, reloads, || {}, async { drop(ended.await) }, |_| {})
}

fn serve_until(
    config: Config,
    mut reloads: mpsc::UnboundedReceiver<Result<Sources, Failure>>,
    hangup: impl Fn() + Send + 'static,
    end: impl Future<Output = ()>,
    listening: impl FnOnce(std::net::SocketAddr),
) -> Result<ExitCode, Failure> {
    let runtime = super::runtime()?;
    let served = runtime.block_on(async {
        let signalled = first_signal()?;
        let mut hangups = signal(SignalKind::hangup()).explain("cannot catch signals")?;
        let (accept, accepted) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            while hangups.recv().await.is_some() {
                hangup()
            }
        });
        let data_dir = config.data_dir.clone();
        tokio::spawn(async move {
            while let Some(sources) = reloads.recv().await {
                match checked(sources).await {
                    Ok(config) => {
                        // It is received until the server ends.
                        let _ = accept.send(of_server(Config { data_dir: data_dir.clone(), ..config }));
                    }
                    Err(failure) => {
                        tracing::error!(
                            "the new configuration is refused, and the old one stays: {}",
                            failure.report()
                        );
                    }
                }
            }
        });
        let shutdown = async {
            tokio::select! {
                () = signalled => {}
                () = end => {}
            }
        };
        hitscope_server::serve(of_server(config), listening, accepted, shutdown).await.explain("cannot serve the page")
    });
    runtime.shutdown_timeout(GRACE);
    served.map(|()| ExitCode::SUCCESS)
}

fn of_server(config: Config) -> hitscope_server::Config {
    let Config { data_dir, host, server, rules, alerts, slack, history, .. } = config;
    let program = PROGRAM.into();
    hitscope_server::Config { program, data_dir, host, server, rules, alerts, slack, history }
}

/// The new configuration, checked as `hitscope config check` does it.
async fn checked(sources: Result<Sources, Failure>) -> Result<Config, Failure> {
    const WHAT: &str = "cannot check the rules";
    let sources = sources?;
    let config = sources.valid()?;
    let text = serde_json::to_vec(&sources).explain(WHAT)?;
    // By a process of its own, as all that plans statements.
    let mut command = Command::new(PROGRAM);
    command.arg("check-rules").stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut check = command.spawn().explain(WHAT)?;
    if let Some(mut pipe) = check.stdin.take() {
        pipe.write_all(&text).await.explain(WHAT)?;
    }
    let output = check.wait_with_output().await.explain(WHAT)?;
    if output.status.success() {
        return Ok(config);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::new(said.trim().trim_start_matches("error: ")))
}

/// Completes at the first SIGTERM or SIGINT after this call.
fn first_signal() -> Result<impl Future<Output = ()>, Failure> {
    let catch = |kind| signal(kind).explain("cannot catch signals");
    let (mut terminate, mut interrupt) = (catch(SignalKind::terminate())?, catch(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
