//! What a service manager does for a node: it keeps sockets that outlive the
//! process, and it is told how the process fares.
//!
//! In: `LISTEN_FDS`, `LISTEN_FDNAMES` and `NOTIFY_SOCKET` of the environment, as
//! systemd sets them (sd_listen_fds(3), sd_notify(3)). Out: sockets in place of
//! such as would be bound, `READY=1`, and sockets given to the manager for the
//! next process (`FDSTORE=1`). `main` owns both and reads them before any
//! thread runs. Without a manager all of it is nothing.

use std::{
    env,
    io::{self, IoSlice},
    net::{SocketAddr, TcpStream, UdpSocket},
    os::fd::{AsRawFd, BorrowedFd, RawFd},
};

use clap::{ArgMatches, parser::ValueSource};
use listenfd::ListenFd;
use socket2::{Domain, MsgHdr, SockAddr, Socket, Type};
use tokio::net::TcpListener;
use tracing::{info, warn};

/// `SOL_SOCKET` and `SCM_RIGHTS` of Linux.
const RIGHTS: (i32, i32) = (1, 1);

/// The sockets that this process was started with, by the names that the
/// manager gave them (`FileDescriptorName=`).
pub struct Inherited {
    sockets: ListenFd,
    /// `None` once taken.
    names: Vec<Option<String>>,
    /// Flags and variables that somebody set, by their names with underscores.
    set: Vec<String>,
}

impl std::fmt::Debug for Inherited {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Inherited").field(&self.names).finish()
    }
}

impl Inherited {
    /// Takes them from the environment: once, before any thread is started.
    #[must_use]
    pub fn from_env() -> Self {
        let names = env::var("LISTEN_FDNAMES").unwrap_or_default();
        Self::named(ListenFd::from_env(), &names)
    }

    /// No sockets: a process without a manager.
    #[must_use]
    pub fn none() -> Self {
        Self::named(ListenFd::empty(), "")
    }

    fn named(sockets: ListenFd, names: &str) -> Self {
        let mut names: Vec<_> = names.split(':').map(|name| Some(name.to_owned())).collect();
        // What systemd calls a socket without a name.
        names.resize(sockets.len(), Some("unknown".to_owned()));
        let set = Vec::new();
        Self {
            sockets,
            names,
            set,
        }
    }

    /// Beside these flags, of which the sockets win over `--NAME-listen`: who set one
    /// that differs is told so.
    #[must_use]
    pub fn beside(mut self, matches: &ArgMatches) -> Self {
        let ids = matches.ids().map(clap::Id::as_str);
        let set = ids.filter(|id| {
            let from = matches.value_source(id);
            from.is_some_and(|from| from != ValueSource::DefaultValue)
        });
        self.set = set.map(str::to_owned).collect();
        self
    }

    /// What counts is where the socket is, whatever the flag says.
    fn tell(&self, name: &str, flag: SocketAddr, socket: SocketAddr) {
        info!(name, address = %socket, "listening at a socket of the service manager");
        if socket != flag && self.set.contains(&format!("{name}_listen")) {
            warn!(
                "--{name}-listen says {flag}, which does not count: the service manager's socket {name:?} is at {socket}"
            );
        }
    }

    fn find(&self, fits: impl Fn(&str) -> bool) -> Option<usize> {
        self.names
            .iter()
            .position(|name| name.as_deref().is_some_and(&fits))
    }

    /// The TCP listener of a name, or one that is bound to `address`. Needs a
    /// tokio runtime.
    ///
    /// # Errors
    /// A taken port, or a socket that is no TCP listener.
    pub async fn listener(&mut self, name: &str, address: SocketAddr) -> io::Result<TcpListener> {
        let Some(index) = self.find(|other| other == name) else {
            return TcpListener::bind(address).await;
        };
        self.names[index] = None;
        let taken = self.sockets.take_tcp_listener(index)?;
        let listener = taken.ok_or(io::ErrorKind::NotFound)?;
        listener.set_nonblocking(true)?;
        self.tell(name, address, listener.local_addr()?);
        TcpListener::from_std(listener)
    }

    /// Whether a socket of this name was handed over.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.find(|other| other == name).is_some()
    }

    /// The UDP socket of a name, if there is one; it would be bound to `address`
    /// else.
    ///
    /// # Errors
    /// A socket that is none of UDP.
    pub fn udp(&mut self, name: &str, address: SocketAddr) -> io::Result<Option<UdpSocket>> {
        let Some(index) = self.find(|other| other == name) else {
            return Ok(None);
        };
        self.names[index] = None;
        let taken = self.sockets.take_udp_socket(index)?;
        if let Some(socket) = &taken {
            self.tell(name, address, socket.local_addr()?);
        }
        Ok(taken)
    }

    /// Another open connection whose name begins with `prefix`, with its name.
    ///
    /// # Errors
    /// A socket that is no TCP connection.
    pub fn connection(&mut self, prefix: &str) -> io::Result<Option<(String, TcpStream)>> {
        let Some(index) = self.find(|name| name.starts_with(prefix)) else {
            return Ok(None);
        };
        let name = self.names[index].take().unwrap_or_default();
        let (family, kind) = (Domain::IPV4.into(), Type::STREAM.into());
        let taken = self
            .sockets
            .take_custom(index, family, kind, "TCP connection")?;
        Ok(taken.map(|stream| (name, stream)))
    }

    /// Says which socket nobody took: most likely its name is misspelt.
    ///
    /// # Errors
    /// [`Untaken`], if there is one.
    pub fn all_taken(&self) -> Result<(), Untaken> {
        match self.names.iter().flatten().next() {
            Some(name) => Err(Untaken(name.clone())),
            None => Ok(()),
        }
    }
}

/// A socket that this node has no use for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "LISTEN_FDNAMES: nothing here listens on a socket named {0:?}; an origin has rtmp, rtmps, link and ops, an edge http, https, irc, ircs, link and ops, each where its flag is given"
)]
pub struct Untaken(String);

/// Whoever started this process and wants to hear of it.
#[derive(Debug, Default)]
pub struct Manager(Option<(Socket, SockAddr)>);

impl Manager {
    /// Finds it in the environment.
    ///
    /// # Errors
    /// `NOTIFY_SOCKET` is no address of a socket.
    pub fn from_env() -> io::Result<Self> {
        match env::var("NOTIFY_SOCKET") {
            Ok(path) if !path.is_empty() => Self::at(&path),
            _ => Ok(Self::default()),
        }
    }

    /// The one that listens at a path.
    ///
    /// # Errors
    /// The path is too long for a socket.
    pub fn at(path: &str) -> io::Result<Self> {
        // An @ stands for the NUL of an abstract address.
        let path = match path.strip_prefix('@') {
            Some(name) => format!("\0{name}"),
            None => path.to_owned(),
        };
        let socket = Socket::new(Domain::UNIX, Type::DGRAM, None)?;
        Ok(Self(Some((socket, SockAddr::unix(path)?))))
    }

    /// Whether there is one.
    #[must_use]
    pub fn is_there(&self) -> bool {
        self.0.is_some()
    }

    /// Tells it something, such as `READY=1`. It may have gone: that is its loss.
    pub fn tell(&self, state: &str) {
        if let Some((socket, manager)) = &self.0 {
            let _ = socket.send_to(state.as_bytes(), manager);
        }
    }

    /// Gives it a socket to keep for the next process, under a name of letters,
    /// digits and hyphens.
    ///
    /// # Errors
    /// There is no manager, or it takes nothing.
    pub fn keep(&self, name: &str, socket: BorrowedFd<'_>) -> io::Result<()> {
        let Some((own, manager)) = &self.0 else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let text = format!("FDSTORE=1\nFDNAME={name}");
        let control = rights(socket.as_raw_fd());
        let text = [IoSlice::new(text.as_bytes())];
        let message = MsgHdr::new()
            .with_addr(manager)
            .with_buffers(&text)
            .with_control(&control);
        own.sendmsg(&message, 0).map(|_| ())
    }
}

/// A control message with one descriptor (cmsg(3)): its length without padding
/// as a `size_t`, level, type, the descriptor, and padding to a whole word.
fn rights(descriptor: RawFd) -> Vec<u8> {
    const WORD: usize = size_of::<usize>();
    let header = WORD + 2 * size_of::<i32>();
    let length = header + size_of::<RawFd>();
    let mut control = Vec::with_capacity(header + WORD);
    control.extend_from_slice(&length.to_ne_bytes());
    control.extend_from_slice(&RIGHTS.0.to_ne_bytes());
    control.extend_from_slice(&RIGHTS.1.to_ne_bytes());
    control.extend_from_slice(&descriptor.to_ne_bytes());
    control.resize(header + WORD.max(size_of::<RawFd>()), 0);
    control
}

#[cfg(test)]
mod tests {
    use std::{
        io::Read,
        net::TcpListener as StdListener,
        os::{fd::AsFd, unix::net::UnixDatagram},
        process::{Command, Stdio},
    };

    use super::*;

    const CHILD: &str = "MILLRACE_TEST_SERVICE_CHILD";

    /// Not a test by itself: the process that inherits the sockets below. It was
    /// given its standard input, descriptor 0, as the first of them.
    #[tokio::test]
    async fn child_that_inherits() {
        if env::var(CHILD).is_err() {
            return;
        }
        let mut inherited = Inherited::from_env();
        assert!(inherited.has("http") && !inherited.has("ops"));
        assert!(
            inherited
                .all_taken()
                .unwrap_err()
                .to_string()
                .contains("\"http\"")
        );
        let elsewhere = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = inherited.listener("http", elsewhere).await.unwrap();
        assert_eq!(inherited.all_taken(), Ok(()));
        let (stream, _) = listener.accept().await.unwrap();
        stream.writable().await.unwrap();
        stream.try_write(b"served by the child").unwrap();
    }

    #[test]
    fn who_connected_before_the_process_began_is_served_by_it() {
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut early = TcpStream::connect(address).unwrap();
        let child = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "service::tests::child_that_inherits",
                "--nocapture",
            ])
            .env(CHILD, "1")
            .env("LISTEN_FDS", "1")
            .env("LISTEN_FDNAMES", "http")
            .env("LISTEN_FDS_FIRST_FD", "0")
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(listener)))
            .stdout(Stdio::null())
            .spawn();
        let mut said = String::new();
        early.read_to_string(&mut said).unwrap();
        assert_eq!(said, "served by the child");
        assert!(child.unwrap().wait().unwrap().success());
    }

    #[test]
    fn a_manager_gets_words_and_sockets() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let heard = UnixDatagram::bind(&path).unwrap();
        let manager = Manager::at(path.to_str().unwrap()).unwrap();
        assert!(manager.is_there());
        manager.tell("READY=1");
        let mut buffer = [0; 64];
        let count = heard.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"READY=1");

        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        let mut ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        manager.keep("publisher-0", theirs.as_fd()).unwrap();
        drop(theirs);
        // Only what is on its way to the manager keeps it open.
        ours.set_nonblocking(true).unwrap();
        let open = ours.read(&mut buffer).unwrap_err();
        assert_eq!(open.kind(), io::ErrorKind::WouldBlock);
        let count = heard.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..count], b"FDSTORE=1\nFDNAME=publisher-0");
        ours.set_nonblocking(false).unwrap();
        assert_eq!(ours.read(&mut buffer).unwrap_or(0), 0);
    }

    #[test]
    fn only_a_flag_that_somebody_set_can_be_in_vain() {
        let flag = |id| clap::Arg::new(id).long(id).default_value("127.0.0.1:1");
        let command = clap::Command::new("node").args([flag("ops_listen"), flag("rtmp_listen")]);
        let matches = command.get_matches_from(["node", "--ops_listen", "127.0.0.1:1"]);
        assert_eq!(Inherited::none().beside(&matches).set, ["ops_listen"]);
    }

    #[test]
    fn without_a_manager_nothing_is_kept() {
        let manager = Manager::default();
        manager.tell("READY=1");
        let listener = StdListener::bind("127.0.0.1:0").unwrap();
        assert!(!manager.is_there() && manager.keep("publisher-0", listener.as_fd()).is_err());
        let mut none = Inherited::none();
        let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
        assert!(none.udp("link", anywhere).unwrap().is_none() && none.all_taken().is_ok());
        assert!(none.connection("publisher-").unwrap().is_none());
    }
}
