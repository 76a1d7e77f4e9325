"""A page in the browser to try a run's two networks.

    python app.py                  # the newest run, or what is shipped here
    python app.py runs/FOLDER

Draw a digit or drop an image, and see what the classifier says; move through the latent
space, and see what the generator makes of it. The page is served on this machine only,
and fetches nothing from elsewhere. It needs Gradio: install requirements/app.txt.
"""

import base64
import importlib.util
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from gankit.backend import LazyModule, keras
from gankit.command import InputError, OneLineParser, run_script
from gankit.data.images import IMAGE_SUFFIXES, fit_image, read_image
from gankit.models.classify import class_probabilities, count_classes
from gankit.models.digits import fit_digit, knows_digits
from gankit.models.files import (
    load_classifier,
    load_generator,
    matching_names,
    newest_in,
    newest_model,
)
from gankit.models.generate import generate
from gankit.pictures import to_pixels
from helpers import generate_latent_points

gr = LazyModule("gradio")
middleware = LazyModule("starlette.middleware")
HOST = "127.0.0.1"
LARGEST_UPLOAD = "10mb"
# the canvas, in pixels
CANVAS = 280
# pictures are enlarged to about this many pixels
SHOWN = 280
N_DIRECTIONS = 6
# how far a slider goes; the coordinates of a latent point have a spread of 1
FARTHEST = 4.0
# the browser itself then refuses whatever the page would fetch from elsewhere
CONTENT_POLICY = (
    "default-src 'self' 'unsafe-inline' 'unsafe-eval' data: blob:; "
    "form-action 'self'; frame-ancestors 'none'; object-src 'none'"
)
CANVAS_HTML = f"""
<canvas width="{CANVAS}" height="{CANVAS}" aria-label="Draw here"></canvas>
<p>Draw a digit here. <button type="button">Clear</button></p>
"""
CANVAS_CSS = """
canvas { border: 1px solid gray; touch-action: none; cursor: crosshair }
button { text-decoration: underline }
"""
# Gradio's own editor needs a tool to be chosen first, after each clearing too
CANVAS_SCRIPT = """
const canvas = element.querySelector("canvas");
const pen = canvas.getContext("2d", { willReadFrequently: true });
pen.lineWidth = canvas.width / 13;
pen.lineCap = pen.lineJoin = "round";
const send = () => {
  const { data } = pen.getImageData(0, 0, canvas.width, canvas.height);
  let grey = "";
  for (let i = 0; i < data.length; i += 4) grey += String.fromCharCode(data[i]);
  props.value = btoa(grey);
  trigger("input");
};
const clear = () => {
  pen.fillStyle = "white";
  pen.fillRect(0, 0, canvas.width, canvas.height);
};
const draw = (event) => {
  pen.lineTo(event.offsetX, event.offsetY);
  pen.stroke();
};
canvas.addEventListener("pointerdown", (event) => {
  canvas.setPointerCapture(event.pointerId);
  pen.beginPath();
  draw(event);
});
canvas.addEventListener("pointermove", (event) => {
  if (canvas.hasPointerCapture(event.pointerId)) draw(event);
});
canvas.addEventListener("pointerup", send);
element.querySelector("button").addEventListener("click", () => {
  clear();
  send();
});
clear();
"""


def read_drawing(text):
    """Return what is on the canvas, uint8 (h, w, 1), None where nothing is.

    text: the grey values of the pixels, row by row, as base64. Raises InputError for
    anything else.
    """
    if not text:
        return None
    try:
        pixels = np.frombuffer(base64.b64decode(text, validate=True), np.uint8)
        return pixels.reshape(CANVAS, CANVAS, 1)
    except (ValueError, TypeError) as error:
        raise InputError("the drawing: not what this page sends; load it anew") from (
            error
        )


def classify(c_model, class_names, image, *, digits):
    """Return {class: probability} for an image, uint8 (h, w, c) of any size, and it.

    'It' is the image as the classifier was given it, enlarged, uint8 (h, w) or
    (h, w, 3). digits: whether a digit is looked for in the image, which is then fitted
    as MNIST's are. Both are None where there is no image or no digit in it.
    """
    if image is None:
        return None, None
    fitted = fit_digit(image) if digits else fit_image(image, *c_model.input_shape[1:])
    if fitted is None:
        return None, None
    (probabilities,) = class_probabilities(
        c_model, fitted[np.newaxis], n_classes=len(class_names)
    )
    answer = dict(zip(class_names, map(float, probabilities), strict=True))
    return answer, enlarge(fitted[..., 0] if fitted.shape[-1] == 1 else fitted)


def enlarge(image):
    """Return an image, (h, w) or (h, w, 3), with each pixel as a square of them."""
    n = max(1, SHOWN // max(image.shape[:2]))
    return image.repeat(n, axis=0).repeat(n, axis=1)


def find_directions(g_model, n):
    """Return at most n latent directions, float32 (n, latent_dim), orthonormal.

    They are the principal directions of the generator's first layer: of all steps of
    the same length these change its output most (Shen and Zhou 2021).
    """
    kernel = next(
        layer.kernel
        for layer in g_model.layers
        if isinstance(layer, keras.layers.Dense)
    )
    directions, _, _ = np.linalg.svd(np.float64(kernel), full_matrices=False)
    return np.float32(directions.T[:n])


def generate_picture(g_model, point, directions, amounts):
    """Return the picture of a latent point that was moved, enlarged.

    point: (latent_dim,); directions: (n, latent_dim); amounts: n numbers. Returns
    uint8 (h, w), grey reversed, or (h, w, 3).
    """
    moved = np.float32(point + np.float32(amounts) @ directions)
    return enlarge(to_pixels(generate(g_model, moved[np.newaxis]))[0])


def find_models(run):
    """Return the paths of a run's newest classifier and generator, None without one.

    run: a folder, or None: then each is that of the newest run that has one, else what
    is shipped here, the tuned classifier before the tutorial's. Raises InputError where
    there is neither.
    """
    if run is not None:
        found = tuple(newest_in(run, kind) for kind in ("classifier", "generator"))
        if found == (None, None):
            raise InputError(
                f"{run}: holds no c_model and no g_model; name the folder of a run"
            )
        return found
    c_path = newest_model("classifier", tuned=True)
    try:
        return c_path, newest_model("generator")
    except InputError:  # none is shipped
        return c_path, None


class Page:
    """The page; its methods answer what happens on it."""

    def __init__(self, c_path, g_path):
        self.c_model = self.g_model = None
        if c_path is not None:
            self.c_model = load_classifier(c_path)
            names = matching_names(c_path, self.c_model)
            self.digits = knows_digits(c_path, self.c_model, names)
            numbers = map(str, range(count_classes(self.c_model)))
            self.class_names = names or [*numbers]
        if g_path is not None:
            self.g_model = load_generator(g_path)
            self.directions = find_directions(self.g_model, N_DIRECTIONS)

    def _classify(self, image):
        return classify(self.c_model, self.class_names, image, digits=self.digits)

    def answer_drawing(self, drawing):
        return self._classify(read_drawing(drawing))

    def answer_file(self, path):
        if path is None:
            return None, None
        try:
            return self._classify(read_image(path))
        except InputError as error:
            # without the name of the temporary file
            raise gr.Error(str(error).removeprefix(f"{path}: ")) from error

    def new_sample(self):
        point = generate_latent_points(self.g_model.input_shape[1], 1)[0]
        return point.tolist(), *[0.0] * len(self.directions)

    def answer_sliders(self, point, *amounts):
        return generate_picture(
            self.g_model, np.float32(point), self.directions, amounts
        )

    def build(self):
        """Return the page as Gradio's Blocks."""
        # nothing is kept longer than a quarter of an hour
        with gr.Blocks(
            title="Semi-supervised GAN", analytics_enabled=False, delete_cache=(60, 900)
        ) as blocks:
            if self.c_model is not None:
                self._build_classifier()
            if self.g_model is not None:
                self._build_generator(blocks)
        return blocks

    def _build_classifier(self):
        gr.Markdown("## What does the classifier say?")
        with gr.Row():
            with gr.Column():
                with gr.Tab("Draw"):
                    drawing = gr.HTML(
                        html_template=CANVAS_HTML,
                        css_template=CANVAS_CSS,
                        js_on_load=CANVAS_SCRIPT,
                        elem_id="drawing",
                    )
                with gr.Tab("Drop an image"):
                    file = gr.File(label="PNG or JPEG", file_types=[*IMAGE_SUFFIXES])
            with gr.Column():
                label = gr.Label(
                    label="Probabilities", num_top_classes=10, elem_id="answer"
                )
                seen = gr.Image(
                    label="As the classifier sees it",
                    elem_id="seen",
                    height=SHOWN + 60,
                    interactive=False,
                    buttons=[],
                    format="png",
                )
        for event, component, function in (
            (drawing.input, drawing, self.answer_drawing),
            (file.change, file, self.answer_file),
        ):
            event(
                function,
                component,
                [label, seen],
                show_progress="hidden",
                trigger_mode="always_last",
                api_visibility="private",
            )

    def _build_generator(self, blocks):
        gr.Markdown("## What does the generator make of a latent point?")
        point = gr.State()
        with gr.Row():
            picture = gr.Image(
                label="Generated",
                elem_id="generated",
                height=SHOWN + 60,
                interactive=False,
                buttons=[],
                format="png",
            )
            with gr.Column():
                button = gr.Button("New sample", variant="primary")
                sliders = [
                    gr.Slider(
                        -FARTHEST, FARTHEST, 0.0, step=0.1, label=f"Direction {i}"
                    )
                    for i in range(1, len(self.directions) + 1)
                ]
        hidden = {"show_progress": "hidden", "api_visibility": "private"}
        show = (self.answer_sliders, [point, *sliders], picture)
        for event in (button.click, blocks.load):
            event(self.new_sample, None, [point, *sliders], **hidden).then(
                *show, **hidden
            )
        for slider in sliders:
            slider.input(*show, trigger_mode="always_last", **hidden)


class OwnContentOnly:
    """ASGI middleware that sends CONTENT_POLICY with each answer."""

    def __init__(self, app):
        self._app = app

    async def __call__(self, scope, receive, send):
        async def send_with_policy(message):
            if message["type"] == "http.response.start":
                policy = (b"content-security-policy", CONTENT_POLICY.encode())
                message["headers"] = [*message.get("headers", []), policy]
            await send(message)

        await self._app(scope, receive, send_with_policy)


def serve(page, port, *, wait=True):
    """Serve the page on this machine until Ctrl-C; return the Blocks, still open
    where `wait` is false."""
    blocks = page.build()
    try:
        blocks.launch(
            server_name=HOST,
            server_port=port,
            share=False,
            quiet=True,
            prevent_thread_lock=True,
            # fonts that the machine has: none is fetched
            theme=gr.themes.Default(
                font=["system-ui", "sans-serif"], font_mono=["monospace"]
            ),
            footer_links=[],
            run_history=False,
            enable_monitoring=False,
            ssr_mode=False,
            pwa=False,
            mcp_server=False,
            max_file_size=LARGEST_UPLOAD,
            app_kwargs={
                "docs_url": None,
                "redoc_url": None,
                "openapi_url": None,
                "middleware": [middleware.Middleware(OwnContentOnly)],
            },
        )
    except OSError as error:
        raise InputError(
            f"--port {port}: can't be used ({error}); name another"
        ) from error
    print(f"Open http://{HOST}:{port} in a browser; Ctrl-C ends it", flush=True)
    if wait:
        blocks.block_thread()
    return blocks


def check_gradio():
    """Raise InputError where Gradio is missing."""
    if importlib.util.find_spec("gradio") is None:
        raise InputError("gradio: not installed; pip install -r requirements/app.txt")


def settle_environment(folder):
    """Set what Gradio reads from the environment when it is imported.

    The user's own settings could show files of this machine, or have it look for this
    page behind a proxy. folder: of the temporary files.
    """
    for name in [*os.environ]:
        if name.startswith("GRADIO_") or name.lower().endswith("_proxy"):
            del os.environ[name]
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False",
        GRADIO_TEMP_DIR=str(folder),
        HF_HUB_OFFLINE="1",
    )


def run(args):
    if not 1024 <= args.port <= 65535:
        raise InputError(f"--port {args.port}: must be from 1024 to 65535")
    check_gradio()
    c_path, g_path = find_models(args.run)
    page = Page(c_path, g_path)
    for kind, path in (("Classifier", c_path), ("Generator", g_path)):
        print(f"{kind}: {path or 'none here; name the folder of a run that has one'}")
    with tempfile.TemporaryDirectory() as folder:
        settle_environment(folder)
        serve(page, args.port)


def main(argv=None):
    parser = OneLineParser(description="A page in the browser to try a run's networks.")
    add = parser.add_argument
    add(
        "run",
        metavar="RUN",
        nargs="?",
        type=Path,
        help="a run's folder (default: the newest run, or what is shipped here)",
    )
    add("--port", type=int, default=7860, help="port on this machine (default: 7860)")
    args = parser.parse_args(argv)
    return run_script("app.py", lambda: run(args))


if __name__ == "__main__":
    sys.exit(main())
