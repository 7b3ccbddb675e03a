//! What a service tells the manager that started it: one datagram each, as systemd reads it (sd_notify(3)). Without a manager
//! nothing is said.

use std::{
    env, io,
    os::{
        linux::net::SocketAddrExt,
        unix::{
            ffi::OsStrExt,
            net::{SocketAddr, UnixDatagram},
        },
    },
};

/// What a service says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It has started.
    Ready,
    /// It is alive; to be said again before the time is up that the manager gives.
    Alive,
    /// It is about to end.
    Stopping,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "READY=1",
            Self::Alive => "WATCHDOG=1",
            Self::Stopping => "STOPPING=1",
        }
    }
}

/// Says it. A manager that does not listen is its own affair: it will see that nothing came.
pub fn tell_manager(state: State) {
    if let Some(path) = env::var_os("NOTIFY_SOCKET")
        && let Err(error) = send(path.as_bytes(), state)
    {
        tracing::debug!("cannot tell the service manager {}: {error}", state.as_str());
    }
}

/// The name begins with `/`, or with `@` where it is abstract.
fn send(name: &[u8], state: State) -> io::Result<()> {
    let address = match name.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(std::ffi::OsStr::from_bytes(name))?,
    };
    let socket = UnixDatagram::unbound()?;
    // The manager may be busy; whoever says that it lives must not hang on that.
    socket.set_nonblocking(true)?;
    socket.send_to_addr(state.as_str().as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manager_hears_it_at_a_path_and_at_an_abstract_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let abstract_name = format!("hitscope-test-{}", std::process::id());
        let by_path = (UnixDatagram::bind(&path).unwrap(), path.as_os_str().as_bytes().to_vec());
        let address = SocketAddr::from_abstract_name(&abstract_name).unwrap();
        let by_name = (UnixDatagram::bind_addr(&address).unwrap(), format!("@{abstract_name}").into_bytes());
        for (manager, name) in [by_path, by_name] {
            send(&name, State::Ready).unwrap();
            let mut said = [0; 64];
            let length = manager.recv(&mut said).unwrap();
            assert_eq!(&said[..length], b"READY=1");
        }
        assert!(send(b"/nowhere/at/all", State::Alive).is_err());
    }
}
