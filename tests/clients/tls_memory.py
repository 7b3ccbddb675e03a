"""Speaks Redis with itself over TLS: asyncio moves the bytes, and OpenSSL only sees memory.

Arguments: certificate, key. 4 connections at a time, 3 times, 5 commands each. Prints the server's port first."""

import asyncio
import ssl
import sys


async def answer(reader, writer):
    while line := await reader.readline():
        for _ in range(2 * int(line[1:])):
            await reader.readline()
        writer.write(b"$2\r\nhi\r\n")
        await writer.drain()
    writer.close()


async def ask(port, context):
    for _ in range(3):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        for number in range(5):
            key = b"tls_memory:%d" % (1000 + number)
            writer.write(b"*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n" % (len(key), key))
            await writer.drain()
            assert await reader.readexactly(8) == b"$2\r\nhi\r\n"
        writer.close()
        await writer.wait_closed()


async def main():
    own = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    own.load_cert_chain(sys.argv[1], sys.argv[2])
    theirs = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    theirs.check_hostname = False
    theirs.verify_mode = ssl.CERT_NONE
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=own)
    port = server.sockets[0].getsockname()[1]
    print(port, flush=True)
    await asyncio.gather(*[ask(port, theirs) for _ in range(4)])


asyncio.run(main())
