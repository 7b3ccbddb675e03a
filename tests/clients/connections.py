"""TCP connections whose ends are known exactly, in a network namespace of their own: `unshare --net` starts this.

Prints what it did as one JSON object per line, and waits for a line on its input where it says so.
"""

import json, os, socket, struct, subprocess, sys, threading, time


def sh(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def say(**what):
    print(json.dumps(what), flush=True)


def listen(address, port=4000):
    return socket.create_server((address, port), family=socket.AF_INET6 if ":" in address else socket.AF_INET)


def read_exactly(sock, length):
    while length > 0:
        length -= len(sock.recv(min(length, 65536)) or sys.exit("the other end closed"))


def serve(listener, count, received, sent):
    """Answers so many connections, one after the other, until the other end closes."""
    for _ in range(count):
        connection, _ = listener.accept()
        with connection:
            read_exactly(connection, received)
            connection.sendall(b"y" * sent)
            assert connection.recv(1) == b""


def in_background(function, *arguments):
    thread = threading.Thread(target=function, args=arguments, daemon=True)
    thread.start()
    return thread


def lossy(on):
    sh("tc", "qdisc", "add" if on else "del", "dev", "lo", "root", "blackhole")


def retransmits(sock):
    """`tcpi_total_retrans` of `struct tcp_info` (include/uapi/linux/tcp.h)."""
    return struct.unpack_from("I", sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)[0]


def exchange(address, count, sent, received):
    listener = listen(address)
    server = in_background(serve, listener, count, sent, received)
    for _ in range(count):
        with socket.create_connection((address, 4000)) as connection:
            connection.sendall(b"x" * sent)
            read_exactly(connection, received)
    server.join()


def refused(address, count):
    for _ in range(count):
        try:
            socket.create_connection((address, 4000))
            sys.exit("somebody listens")
        except ConnectionRefusedError:
            pass


def reset(address, count):
    listener = listen(address)
    for _ in range(count):
        client = socket.create_connection((address, 4000))
        server, _ = listener.accept()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        server.close()
        try:
            client.recv(1)
            sys.exit("no reset came")
        except ConnectionResetError:
            client.close()


waited = {}


def connect_in_vain(address, limit):
    """Connects where nothing answers; `limit` is how long the process waits, None: until the kernel gives up."""
    client = socket.socket()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
    client.settimeout(limit)
    begin = time.monotonic()
    try:
        client.connect((address, 4000))
        sys.exit("somebody answered")
    except TimeoutError:
        client.close()
    waited[address] = time.monotonic() - begin


def lost_answers():
    """Retransmits until the way is free again, and an established connection that times out."""
    delayed, broken = listen("127.0.3.1"), listen("127.0.3.2")
    first, second = socket.create_connection(("127.0.3.1", 4000)), socket.create_connection(("127.0.3.2", 4000))
    first_server, second_server = delayed.accept()[0], broken.accept()[0]
    second.setsockopt(socket.IPPROTO_TCP, 18, 600)  # TCP_USER_TIMEOUT, ms
    lossy(True)
    first.sendall(b"x" * 1000)
    second.sendall(b"x" * 1000)
    time.sleep(0.8)
    try:
        second.settimeout(30)
        second.recv(1)
        sys.exit("an answer came")
    except TimeoutError as error:
        assert error.errno == 110, "the kernel gave up, not we"
    second.close()
    lossy(False)
    read_exactly(first_server, 1000)
    say(retransmits=retransmits(first))
    first.close()
    first_server.recv(1)
    # Answered by a reset, since its other end is gone.
    second_server.close()


def outcomes():
    try:
        lossy(True)
        lossy(False)
    except subprocess.CalledProcessError:
        say(skip="tc cannot drop packets here")
        return
    say(skip=None)
    exchange("127.0.1.1", 7, 3000, 5000)
    exchange("::1", 2, 100_000, 200_000)
    refused("127.0.1.2", 3)
    reset("127.0.1.3", 2)
    lossy(True)
    waits = [in_background(connect_in_vain, address, limit)
             for address, limit in [("127.0.2.1", None), ("127.0.2.2", 1.3), ("127.0.2.3", 0.3)]]
    for wait in waits:
        wait.join()
    lossy(False)
    say(waited_s=waited["127.0.2.3"])
    lost_answers()
    say(done=True)


def long_lived():
    listener = listen("127.0.4.1")
    client = socket.create_connection(("127.0.4.1", 4000))
    server, _ = listener.accept()

    def talk(sent, received):
        client.sendall(b"x" * sent)
        read_exactly(server, sent)
        server.sendall(b"y" * received)
        read_exactly(client, received)

    talk(1111, 2222)
    say(open=True)
    sys.stdin.readline()
    talk(30_000, 4_000_000)
    say(talked=True)
    sys.stdin.readline()
    talk(5, 7)
    client.close()
    server.close()
    say(closed=True)
    sys.stdin.readline()


def forking():
    """The parent accepts, a child of its own serves each connection."""
    listener = listen("127.0.5.1")
    children = []
    for sent in [1000, 2000]:
        client = socket.create_connection(("127.0.5.1", 4000))
        connection, _ = listener.accept()
        closed, tell_closed = os.pipe()
        child = os.fork()
        if child == 0:
            client.close()
            os.read(closed, 1)
            connection.sendall(b"y" * sent)
            os._exit(0)
        connection.close()
        os.write(tell_closed, b"!")
        children.append(child)
        read_exactly(client, sent)
        assert client.recv(1) == b""
        client.close()
        os.waitpid(child, 0)
    say(children=children)


if __name__ == "__main__":
    sh("ip", "link", "set", "lo", "up")
    {"outcomes": outcomes, "long-lived": long_lived, "forking": forking}[sys.argv[1]]()
