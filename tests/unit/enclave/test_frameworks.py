"""Frameworks: FastAPI, Starlette, Flask, Django and WSGI at all, unchanged, with threads within the measured budget."""

import json

import pytest

from .conftest import make_config

FASTAPI = """
import threading, time
from fastapi import FastAPI, UploadFile
from contextlib import asynccontextmanager
from glasscase import runtime

@asynccontextmanager
async def lifespan(app):
    app.state.model = "loaded"
    yield
    print("fastapi: shut down", flush=True)

app = FastAPI(lifespan=lifespan)

@app.get("/hello")
def hello(name: str):
    return {"hello": name, "model": app.state.model, "token": len(runtime.secrets["token"])}

@app.get("/threads")
def threads():
    time.sleep(0.2)
    return len([t for t in threading.enumerate() if "AnyIO" in t.name])
"""
STARLETTE = """
from starlette.applications import Starlette
from starlette.responses import StreamingResponse, JSONResponse
from starlette.routing import Route

async def hello(request):
    return JSONResponse({"hello": request.query_params["name"]})

async def stream(request):
    async def parts():
        for n in range(1000):
            yield b"x" * 1000
    return StreamingResponse(parts())

app = Starlette(routes=[Route("/hello", hello), Route("/stream", stream)])
"""
FLASK = """
from flask import Flask, request, jsonify
from glasscase import runtime
app = Flask(__name__)

@app.route("/hello")
def hello():
    return jsonify(hello=request.args["name"], token=len(runtime.secrets["token"]))

@app.route("/length", methods=["POST"])
def length():
    return str(len(request.get_data()))
"""
DJANGO = """
import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.http import JsonResponse
from django.urls import path
from glasscase import runtime

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY=runtime.secrets["token"], INSTALLED_APPS=[])

def hello(request):
    return JsonResponse({"hello": request.GET["name"]})

urlpatterns = [path("hello", hello)]
app = get_wsgi_application()
"""
WSGI = """
def app(environ, start_response):
    start_response("200 OK", [("content-type", "application/json")])
    return [b'{"hello": "' + environ["QUERY_STRING"].partition("=")[2].encode() + b'"}']
"""
APPS = {"fastapi": (FASTAPI, "asgi"), "starlette": (STARLETTE, "asgi"), "flask": (FLASK, "wsgi"), "django": (DJANGO, "wsgi"),
        "wsgi": (WSGI, "wsgi")}  # fmt: skip


@pytest.mark.parametrize("name", APPS)
def test_it_serves(enclave, name):
    """The application answers, large bodies pass, and it stops cleanly."""
    text, interface = APPS[name]
    one = enclave(config=make_config(interface=interface, entry="demo:app"), app={"demo.py": text}).start()
    one.serve()
    status, body = one.ask("GET", "/hello?name=you")

    assert (200, "you") == (status, json.loads(body)["hello"])
    if name == "flask":
        assert (200, b"10000000") == one.ask("POST", "/length", bytes(10_000_000))
    if name == "starlette":
        assert 1_000_000 == len(one.ask("GET", "/stream")[1])
    if name == "fastapi":
        assert "loaded" == json.loads(body)["model"]
        _check_budget(one)
    assert 0 == one.stop()
    if name == "fastapi":
        assert "fastapi: shut down" in one.text()


def _check_budget(one):
    """Eight requests at a time must not use more threads than app_threads (4) allows."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(8) as pool:
        seen = [int(future.result()[1]) for future in [pool.submit(one.ask, "GET", "/threads") for _ in range(8)]]
    assert 3 >= max(seen)
