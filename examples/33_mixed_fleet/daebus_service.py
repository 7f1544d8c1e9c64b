# A service in Python, on Daebus itself: pip install daebus. Started by main.ts where Daebus is installed.
import sys

from daebus import Daebus, broadcast, request, response

service, redis_host, redis_port = sys.argv[1:4]
app = Daebus(__name__)


@app.action("add")
def add():
    return response.send({"sum": request.payload["a"] + request.payload["b"]})


@app.action("count")
def count():
    steps = request.payload["to"]
    for step in range(1, steps):
        response.send({"step": step}, final=False)
    return response.send({"counted": steps})


@app.action("fail")
def fail():
    return response.error("no such user")


@app.listen(service + ".greetings")
def greeted(data):
    broadcast.send(service + ".answers", {"from": "daebus", "heard": data["text"]})


if __name__ == "__main__":
    app.run(service=service, redis_host=redis_host, redis_port=int(redis_port))
