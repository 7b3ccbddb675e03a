use std::{
    io::{self, BufRead, BufReader, Read},
    path::Path,
    process::ExitCode,
    thread,
    time::Duration,
};

use hitscope_base::{Explain, Failure};
use hitscope_cli::Serve;
use hitscope_config::{Config, Sources};
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

/// A server that does not end in order is cut off after this long.
const GRACE: Duration = Duration::from_secs(1);

/// `hitscope serve`
pub fn serve(arguments: &Serve) -> Result<ExitCode, Failure> {
    if arguments.supervised {
        return serve_for_run();
    }
    let config = arguments.place.sources(arguments.listen.as_deref())?.resolve()?;
    config.validate()?;
    super::require_folder(&config.data_dir)?;
    let folder = config.data_dir.display().to_string();
    serve_until(config, std::future::pending(), move |address| {
        println!("the page is at http://{address}");
        println!("the history is in {folder}");
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
    thread::spawn(move || {
        // Until `run` ends, in whatever way.
        let _ = pipe.read_to_end(&mut Vec::new());
        let _ = end.send(());
    });
    serve_until(config, async { drop(ended.await) }, |_| {})
}

fn serve_until(
    config: Config,
    end: impl Future<Output = ()>,
    listening: impl FnOnce(std::net::SocketAddr),
) -> Result<ExitCode, Failure> {
    let runtime = super::runtime()?;
    let served = runtime.block_on(async {
        let signalled = first_signal()?;
        let shutdown = async {
            tokio::select! {
                () = signalled => {}
                () = end => {}
            }
        };
        let Config { data_dir, host, server, rules, alerts, slack, history, .. } = config;
        let program = "/proc/self/exe".into();
        let config = hitscope_server::Config { program, data_dir, host, server, rules, alerts, slack, history };
        hitscope_server::serve(config, listening, shutdown).await.explain("cannot serve the page")
    });
    runtime.shutdown_timeout(GRACE);
    served.map(|()| ExitCode::SUCCESS)
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
