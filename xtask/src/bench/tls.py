"""Both ends of a TLS connection in one thread, which ask and answer as Redis does.

Arguments: certificate, key, seconds. Prints the CPU time of one SSL_read or SSL_write, ns: the median of short stretches."""

import socket
import ssl
import statistics
import sys
import threading
import time

STRETCH = 200
ASK, ANSWER = b"*2\r\n$3\r\nGET\r\n$6\r\nbench1\r\n", b"$5\r\nhello\r\n"

own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
own.load_cert_chain(sys.argv[1], sys.argv[2])
theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
theirs.check_hostname = False
theirs.verify_mode = ssl.CERT_NONE

listener = socket.create_server(("127.0.0.1", 0))
accepted = []
accept = threading.Thread(target=lambda: accepted.append(own.wrap_socket(listener.accept()[0], server_side=True)))
accept.start()
client = theirs.wrap_socket(socket.create_connection(listener.getsockname()))
accept.join()
server = accepted[0]


def stretch():
    begin = time.thread_time_ns()
    for _ in range(STRETCH):
        client.send(ASK)
        server.recv(1000)
        server.send(ANSWER)
        client.recv(1000)
    return (time.thread_time_ns() - begin) / STRETCH / 4


end = time.monotonic() + float(sys.argv[3])
stretch()
times = []
while time.monotonic() < end:
    times.append(stretch())
print(statistics.median(times))
