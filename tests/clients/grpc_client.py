"""Calls of gRPC, on one connection: each line of input is a list of methods with how often and how many at a time to call
each; answered with the calls counted by method and status."""

import collections
import concurrent.futures
import json
import sys

import grpc

channel = grpc.insecure_channel(sys.argv[1])
METHODS = {
    "List": channel.unary_stream,
    "Upload": channel.stream_unary,
    "Chat": channel.stream_stream,
}


def call(method):
    path = "/shop.v1.Catalog/" + method
    invoke = METHODS.get(method, channel.unary_unary)(path)
    streams = method in ("Upload", "Chat")
    request = iter([b"y" * 3000] * 10) if streams else b"17"
    try:
        answer = invoke(request, timeout=0.2 if method == "Slow" else 60)
        if method in ("List", "Chat"):
            collections.deque(answer, maxlen=0)
        return path, "OK"
    except grpc.RpcError as error:
        return path, error.code().name


with concurrent.futures.ThreadPoolExecutor(64) as pool:
    for line in sys.stdin:
        counts = collections.Counter()
        for method, times, at_once in json.loads(line):
            for first in range(0, times, at_once):
                together = range(first, min(first + at_once, times))
                counts.update(pool.map(call, [method for _ in together]))
        print(json.dumps({f"{path} {status}": count for (path, status), count in counts.items()}), flush=True)
channel.close()
