//! Questions and answers: one packet each, of a socket that keeps packets apart. With a question goes the file.

use std::{
    io,
    mem::MaybeUninit,
    os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
    ptr,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// No packet is longer.
const MAX_BYTES: usize = 16 << 10;

/// What is asked of a file.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Question {
    /// Where the named functions lie.
    Functions(Vec<String>),
    /// Whether there is a section of one of these names.
    HasSection(Vec<String>),
}

/// What it holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Offsets in the file, in the order of the names.
    Functions(Vec<Option<u64>>),
    HasSection(bool),
    /// Why it cannot be said.
    Failed(String),
}

/// Room for one descriptor, aligned as the kernel wants it.
#[repr(C, align(8))]
struct Control([u8; 32]);

/// Sends a packet, and a descriptor with it.
///
/// # Errors
/// The kernel's: `EPIPE` when the other end is gone.
pub fn send(socket: BorrowedFd<'_>, message: &impl Serialize, file: Option<BorrowedFd<'_>>) -> io::Result<()> {
    let mut bytes = serde_json::to_vec(message)?;
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 32]);
    // SAFETY: all zero is a header without name and control data.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    if let Some(file) = file {
        let length = size_of::<libc::c_int>() as libc::c_uint;
        header.msg_control = control.0.as_mut_ptr().cast();
        // SAFETY: computes a size; it is 24, less than `control` has.
        header.msg_controllen = unsafe { libc::CMSG_SPACE(length) } as _;
        // SAFETY: `control` is large enough for a header and one descriptor, so that there is a first one, whose data holds it.
        unsafe {
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(length) as _;
            ptr::write_unaligned(libc::CMSG_DATA(first).cast(), file.as_raw_fd());
        }
    }
    // SAFETY: the header names the packet and the control data, which outlive the call.
    match unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) } {
        sent if sent < 0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// The next packet, with the descriptor that came with it; nothing when the other end is closed. Waits.
///
/// # Errors
/// The kernel's; `InvalidData` for a packet that is none of ours.
pub fn receive<T: DeserializeOwned>(socket: BorrowedFd<'_>) -> io::Result<Option<(T, Option<OwnedFd>)>> {
    let mut bytes = vec![0; MAX_BYTES];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let mut control = Control([0; 32]);
    // SAFETY: all zero is a header without name.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control.0) as _;
    // SAFETY: the header names room for the packet and the control data, which outlive the call.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_CMSG_CLOEXEC) };
    let Ok(received) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
    let mut file = None;
    // SAFETY: the kernel has filled in the control data; the header says how much of it.
    let mut control = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: it is null, or points into the control data, where the kernel has written a whole header.
    while let Some(found) = unsafe { control.as_ref() } {
        if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
            // SAFETY: rights are at least one descriptor, which is ours from now on; there is room for no other.
            file = Some(unsafe { OwnedFd::from_raw_fd(ptr::read_unaligned(libc::CMSG_DATA(control).cast())) });
        }
        // SAFETY: of the same header, as the kernel has filled it in.
        control = unsafe { libc::CMSG_NXTHDR(&raw const header, control) };
    }
    if received == 0 {
        return Ok(None);
    }
    if header.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0 {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(Some((serde_json::from_slice(&bytes[..received])?, file)))
}

#[cfg(test)]
mod tests {
    use std::{io::Read, os::fd::AsFd, os::unix::net::UnixDatagram};

    use super::*;

    #[test]
    fn a_file_goes_with_its_question() {
        let (here, there) = UnixDatagram::pair().unwrap();
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, b"it").unwrap();
        io::Seek::rewind(&mut file).unwrap();
        let question = Question::Functions(vec!["SSL_read".into()]);
        send(here.as_fd(), &question, Some(file.as_fd())).unwrap();
        send(here.as_fd(), &Answer::HasSection(true), None).unwrap();
        drop(file);
        let (asked, file) = receive::<Question>(there.as_fd()).unwrap().unwrap();
        let mut text = String::new();
        std::fs::File::from(file.unwrap()).read_to_string(&mut text).unwrap();
        assert_eq!((asked, text.as_str()), (question, "it"));
        let (answer, file) = receive::<Answer>(there.as_fd()).unwrap().unwrap();
        assert_eq!((answer, file.is_none()), (Answer::HasSection(true), true));
    }

    #[test]
    fn what_is_none_of_ours_is_refused() {
        let (here, there) = UnixDatagram::pair().unwrap();
        here.send(b"{\"Shell\":[]}").unwrap();
        here.send(&[b'x'; MAX_BYTES + 1]).unwrap();
        for _ in 0..2 {
            assert_eq!(receive::<Question>(there.as_fd()).unwrap_err().kind(), io::ErrorKind::InvalidData);
        }
    }
}
