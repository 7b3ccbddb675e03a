"""A gRPC server without generated code; says its port, and serves until its input ends."""

import json
import sys
import time
from concurrent import futures

import grpc


def get(request, context):
    return b"item " + request


def missing(request, context):
    context.abort(grpc.StatusCode.NOT_FOUND, 'no item "%s": ä' % request.decode())


def fail(request, context):
    raise ValueError("on purpose")


def every(request, context):
    for number in range(20):
        yield b"x" * 1000 * number


def upload(requests, context):
    return str(sum(len(request) for request in requests)).encode()


def chat(requests, context):
    for request in requests:
        yield request


def slow(request, context):
    time.sleep(1)
    return b""


class Service(grpc.GenericRpcHandler):
    METHODS = {
        "Get": grpc.unary_unary_rpc_method_handler(get),
        "GetAgain": grpc.unary_unary_rpc_method_handler(get),
        "Missing": grpc.unary_unary_rpc_method_handler(missing),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "List": grpc.unary_stream_rpc_method_handler(every),
        "Upload": grpc.stream_unary_rpc_method_handler(upload),
        "Chat": grpc.stream_stream_rpc_method_handler(chat),
        "Slow": grpc.unary_unary_rpc_method_handler(slow),
    }

    def service(self, details):
        return self.METHODS.get(details.method.removeprefix("/shop.v1.Catalog/"))


server = grpc.server(futures.ThreadPoolExecutor(8), handlers=[Service()])
port = server.add_insecure_port("127.0.0.1:0")
server.start()
print(json.dumps({"port": port}), flush=True)
sys.stdin.read()
server.stop(None).wait()
