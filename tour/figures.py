"""Each script's own figures of a finished run, which figures.json keeps.

A figure that the data don't allow, as one of labels or of test images where there are
none, is left out.
"""

import metrics
import numpy as np
from common import generate

from gankit.backend import keras, layers, tf
from gankit.data.images import scale_images
from gankit.models.classify import batch_size

# values of filled images that are compared at once, half a GiB as float64
LARGEST_COMPARED = 1 << 26


def tests_compared(run):
    """Return a run's test arrays, of the images that are compared pixel by pixel.

    As many as are measured, fewer of large ones.
    """
    n = max(1, LARGEST_COMPARED // int(np.prod(run.test[0].shape[1:])))
    chosen = some_of(run.test[0], min(n, run.count_measured()))
    return [array[chosen] for array in run.test]


def some_of(images, n):
    """Return n indices of images, int64, ascending: all, or drawn by a fixed seed.

    The first ones may be of one class, or of few writers, as MNIST's test images are.
    """
    return np.sort(np.random.default_rng(0).permutation(len(images))[:n])


def agree(run, images, y):
    """Return how often a run's judge takes images for their classes, percent."""
    _, probabilities = run.judge.answer(run.inner(images))
    return metrics.agreement(probabilities, y)


def name_measures(run, *images):
    """Return what a run measures of images, and maybe their classes, by names."""
    return dict(zip(run.evaluations, run.measure(*images), strict=True))


def measure_likelihood(sample, dataset, run):
    """Return the Parzen window's log-likelihood of test images.

    A dict: nats, their standard error and the window's sigma, of as many samples as are
    measured; empty without test images. A generator can score above the data
    themselves, see metrics. The window is chosen on 1,000 training images, which the
    generator has seen; the authors keep theirs out.
    """
    if run.test is None:
        return {}
    n = run.count_measured()
    images = sample(n, run.rng_of(1), run.classes(n))
    chosen = np.random.default_rng(0).permutation(len(dataset[0]))[:1000]
    found = metrics.parzen_log_likelihood(images, dataset[0][chosen], run.test[0])
    return dict(zip(("log_likelihood", "standard_error", "sigma"), found, strict=True))


def measure_classes(sample, dataset, run):
    """Return what images asked for by class are worth, a dict.

    sample: (n, rng, labels) -> n images, uint8 (n, h, w, c); dataset: [X, y], X uint8.
    Of five times as many images as are measured, 50,000 at the most:
    nearest_neighbour_error: percent of test images whose nearest generated image was
    asked for as another class, left out without test images; ssim, real_ssim:
    the structural similarity within classes of generated and of training images, means
    over classes; worst_ssim_excess: the largest difference of the two in a class. They
    are left out where no class has two images of both.
    """
    X, y = run.inner(dataset[0]), dataset[1]
    n = min(run.count_measured(5), 5 * metrics.N_MEASURED)
    labels = run.classes(n)
    images = run.inner(sample(n, run.rng_of(1), labels))
    found = {}
    if run.test is not None:
        x_test, y_test = run.inner(run.test[0]), run.test[1]
        error = metrics.nearest_neighbour_error(images, labels, x_test, y_test)
        found["nearest_neighbour_error"] = error
    generated, real = (
        metrics.within_class_ssim(*pair, run.n_classes)
        for pair in ((images, labels), (X, y))
    )
    both = np.isfinite(generated) & np.isfinite(real)
    if both.any():
        generated, real = generated[both], real[both]
        found["ssim"] = float(generated.mean())
        found["real_ssim"] = float(real.mean())
        found["worst_ssim_excess"] = float((generated - real).max())
    return found


def pool_features(d_model, X):
    """Return d's features of images, float32 (n, d), as the paper takes them.

    Each convolution's maps, max-pooled to 4x4 places (Radford et al. 2015, 5.1).
    X: uint8 (n, h, w, c).
    """
    maps = [
        layer.output for layer in d_model.layers if isinstance(layer, layers.LeakyReLU)
    ]
    network = keras.Model(d_model.input, maps)
    parts = []
    n_batch = batch_size(*X.shape[1:3])
    for first in range(0, len(X), n_batch):
        outputs = network.predict_on_batch(scale_images(X[first : first + n_batch]))
        pooled = []
        for output in outputs:
            size = -(-output.shape[1] // 4), -(-output.shape[2] // 4)
            places = tf.nn.max_pool2d(output, size, size, "SAME")
            pooled.append(np.float32(places).reshape(len(output), -1))
        parts.append(np.concatenate(pooled, axis=1))
    return np.concatenate(parts)


def measure_features(d_model, dataset, test):
    """Return how well 1,000 labels and d's features tell the test images' classes.

    A dict with the test error, percent, of ridge regression on the features and on the
    pixels themselves; empty where there are too few labels or no test images. The
    paper's use of d without labels; there, a linear SVM.
    """
    X, y = dataset
    chosen = np.random.default_rng(0).permutation(np.flatnonzero(y >= 0))[:2000]
    if test is None or len(chosen) < 2000:
        return {}
    parts = [(X[chosen[:1000]], y[chosen[:1000]])]
    parts += [(X[chosen[1000:]], y[chosen[1000:]]), test]
    return {
        name: metrics.ridge_error(*((describe(x), labels) for x, labels in parts))
        for name, describe in (
            ("feature_error", lambda x: pool_features(d_model, x)),
            ("pixel_error", lambda x: scale_images(x).reshape(len(x), -1)),
        )
    }


def measure_estimate(critic, real, generated, n_batch):
    """Return the critic's estimate of the distance of two sets of images.

    real, generated: uint8 (n, h, w, c), n the same for both, of which whole batches are
    taken. Each has its own statistics, as in training; the moving ones stay.
    """
    before = [variable.numpy() for variable in critic.non_trainable_variables]
    n_batch = min(n_batch, len(real))
    differences = []
    for last in range(n_batch, len(real) + 1, n_batch):
        answers = [
            critic(scale_images(X[last - n_batch : last]), training=True)
            for X in (real, generated)
        ]
        differences.append(np.mean(answers[0]) - np.mean(answers[1]))
    for variable, value in zip(critic.non_trainable_variables, before, strict=True):
        variable.assign(value)
    return float(np.mean(differences))


def correlate(folder, evaluated, made):
    """Return how well what is known in training tells the judge-FID of a run's folder.

    evaluated: the name of a column of measures.csv, or None; made: those of columns of
    history.csv, which are added. A dict with Spearman's correlation over the
    evaluations: of the column, `<evaluated>_correlation`, and of the median of the last
    101 steps' sums, as WGAN's authors smooth theirs, `training_correlation`; empty
    without a judge or with fewer than two evaluations.
    """
    measured, steps = (
        np.atleast_1d(np.genfromtxt(folder / name, delimiter=",", names=True))
        for name in ("measures.csv", "history.csv")
    )
    if len(measured) < 2 or np.isnan(measured["judge_fid"]).any():
        return {}
    sums = sum(steps[name] for name in made)
    columns = {
        "training": [
            np.median(sums[max(0, step - 101) : step])
            for step in measured["step"].astype(int)
        ]
    }
    if evaluated is not None:
        columns[evaluated] = measured[evaluated]
    return {
        f"{name}_correlation": metrics.spearman(values, measured["judge_fid"])
        for name, values in columns.items()
    }


def measure_filling(fill, draw_masks, dataset, run):
    """Return how well holes in test images are filled, a dict; {} without test images.

    fill: (X, masks) -> the filled images; draw_masks: float32 (n, 4) in [0, 1) -> a
    tensor (n, h, w, 1); dataset: [X, y], X uint8. Of the pixels in the holes: l1, l2:
    mean absolute and squared error, percent, with pixels in [0, 1]; psnr, dB, left out
    where it is infinite; variation: the total variation relative to the truth's, left
    out where that is 0; with a judge also agreement: the percentage of filled images
    that it takes for what they were. The same of two ways without a network, by names
    that begin so: mean_, the mean training image, and nearest_, the training image
    whose pixels around the hole are nearest; and true_agreement, of the images without
    a hole. Of as many images as are measured, fewer of large ones.
    """
    if run.test is None:
        return {}
    X, y = tests_compared(run)
    places = run.rng_of(1).random((len(X), 4), np.float32)
    hidden = np.asarray(draw_masks(places)) > 0
    mean = sum(x.sum(axis=0, dtype=np.float64) for x in np.array_split(dataset[0], 100))
    mean = np.rint(mean / len(dataset[0])).astype(np.uint8)
    nearest = metrics.nearest_by_context(dataset[0], X, hidden)
    ways = {
        "": fill(X, hidden),
        "mean_": np.where(hidden, mean, X),
        "nearest_": np.where(hidden, dataset[0][nearest], X),
    }
    true_variation = metrics.total_variation_in(X, hidden)
    found = {}
    for way, images in ways.items():
        found[f"{way}l1"] = metrics.mean_error(X, images, hidden)
        found[f"{way}l2"] = metrics.mean_error(X, images, hidden, power=2)
        if not np.array_equal(images, X):
            found[f"{way}psnr"] = metrics.psnr(X, images, hidden)
        if true_variation:
            variation = metrics.total_variation_in(images, hidden)
            found[f"{way}variation"] = variation / true_variation
        if run.judge is not None:
            found[f"{way}agreement"] = agree(run, images, y)
    if run.judge is not None:
        found["true_agreement"] = agree(run, X, y)
    return found


def measure_captions(sample, enlarge, captions, run):
    """Return how far a stack obeys captions, and what stage II adds, a dict.

    sample: (n, rng, tokens=, stage=) -> images, uint8 (n, h, w, c), stage 1's of half
    the size; enlarge: those -> bilinearly enlarged. captions: a captions.Captions.
    stage1_judge_fid, stage2_judge_fid: of the same captions, latent points and noise;
    left out without a judge. asked_<attribute> and stage1_asked_<attribute>: percent of
    5,000 images whose value is the one that the caption asks for, where it names one;
    captions of which none was trained on. The first attribute is the judge's to see,
    the others are measured. Left out where captions are from files.
    """

    def painted(tokens, number):
        for stage, name in ((1, "stage1_"), (2, "")):
            rng = run.rng_of(number)
            images = sample(len(tokens), rng, tokens=tokens, stage=stage)
            yield name, enlarge(images) if stage == 1 else images

    found = {}
    n = run.count_measured()
    if run.judge is not None:
        tokens = captions.tokens[captions.draw(n, run.rng_of(1))]
        for name, images in painted(tokens, 2):
            found[f"{name or 'stage2_'}judge_fid"] = run.judge_fid(images)
    if captions.kind == "files":
        return found
    texts, asked = captions.draw_unseen(min(5000, n), run.rng_of(3))
    if not texts:
        return found
    for name, images in painted(captions.read(texts), 4):
        images = run.inner(images)
        values = captions.measure(images)
        if run.judge is not None:
            answers = run.judge.answer(images)[1].argmax(axis=1)
            values = np.column_stack([answers, values])
        attributes = captions.wording.attributes[3 - values.shape[1] :]
        wanted = asked[:, 3 - values.shape[1] :]
        for attribute, value, want in zip(attributes, values.T, wanted.T, strict=True):
            if (want >= 0).any():
                right = np.mean(value[want >= 0] == want[want >= 0])
                found[f"{name}asked_{attribute}"] = 100.0 * float(right)
    return found


def measure_cycle(g_model, f_model, run):
    """Return what translations of test images are worth, a dict.

    g_model: X -> Y, f_model: Y -> X; test images of both domains that belong together
    are needed, as many as are measured at the most. accuracy: percent of F(y) that the
    judge sees as the class of the x that y belongs to, cycle_accuracy: of F(G(x)),
    real_accuracy: of x itself; left out without a judge. l1: the L1 norm of G(x) and
    y, percent, with pixels in [0, 1]; copy_l1: of x and y, what a network would get
    that changes nothing; back_l1: of F(y) and x. Empty without test images.
    """
    if run.test is None:
        return {}
    X, labels, Y = tests_compared(run)
    there, back = generate(g_model, scale_images(X)), generate(f_model, scale_images(Y))
    found = {}
    if run.judge is not None:
        around = generate(f_model, scale_images(there))
        judged = {"accuracy": back, "cycle_accuracy": around, "real_accuracy": X}
        for name, images in judged.items():
            found[name] = agree(run, images, labels)
    pairs = {"l1": (there, Y), "copy_l1": (X, Y), "back_l1": (back, X)}
    for name, pair in pairs.items():
        found[name] = metrics.mean_error(*map(run.inner, pair))
    return found


def measure_translation(translate, run):
    """Return what translations of test pictures are worth, a dict; {} without them.

    translate: inputs -> images, uint8 (n, h, w, c), of the run's test pictures, [X, y,
    inputs], as many as are measured, fewer of large ones. l1: mean absolute error,
    percent, with pixels in [0, 1]; psnr, dB, left out where it is infinite; agreement:
    the percentage of images that the judge takes for what they should be, and
    true_agreement, of these themselves, left out without a judge or labels.
    """
    if run.test is None:
        return {}
    X, y, inputs = tests_compared(run)
    images = translate(inputs)
    inner = run.inner(X), run.inner(images)
    found = {"l1": metrics.mean_error(*inner)}
    if not np.array_equal(*inner):
        found["psnr"] = metrics.psnr(*inner)
    if run.judge is not None and (y >= 0).all():
        for name, shown in (("agreement", images), ("true_agreement", X)):
            found[name] = agree(run, shown, y)
    return found


def measure_truncation(define_sample, run, thresholds=(2, 1, 0.5, 0.2, 0.1)):
    """Return what images are worth whose latent points are truncated, a dict.

    define_sample: threshold -> sample(n, rng, labels), as measure_classes takes it. Of
    as many images as are measured, for each threshold: truncation_<threshold>_agreement
    and _judge_fid, left out without a judge, and _ssim, within classes, left out where
    no class has two images.
    """
    n = run.count_measured()
    labels = run.classes(n)
    found = {}
    for threshold in thresholds:
        images = define_sample(threshold)(n, run.rng_of(1), labels)
        row = name_measures(run, images, labels)
        alike = metrics.within_class_ssim(run.inner(images), labels, run.n_classes)
        row["ssim"] = float(np.nanmean(alike)) if np.isfinite(alike).any() else None
        for name in ("agreement", "judge_fid", "ssim"):
            if row[name] is not None:
                found[f"truncation_{threshold:g}_{name}"] = row[name]
    return found


def measure_levels(sample, dataset, run):
    """Return how far images are from training images at each level of detail, a dict.

    sample: (n, rng, labels) -> n images, uint8 (n, h, w, c); dataset: [X, y], X uint8.
    sliced_wasserstein_<height>: see metrics.sliced_wasserstein, of 2,000 images at the
    most, with the border that they are made with; real_sliced_wasserstein_<height>: of
    test images, or where there are none of other training images. Left out where the
    images are smaller than a patch.
    """
    X = dataset[0]
    order = np.random.default_rng(0).permutation(len(X))
    others = X[order[len(X) // 2 :]] if run.test is None else run.test[0]
    n = min(2000, run.count_measured(), len(X) // 2, len(others))
    if n < 1 or min(X.shape[1:3]) < metrics.PATCH:
        return {}
    real = X[np.sort(order[:n])]
    found = {}
    for name, images in (
        ("", sample(n, run.rng_of(1), run.classes(n))),
        ("real_", others[some_of(others, n)]),
    ):
        for height, distance in metrics.sliced_wasserstein(images, real).items():
            found[f"{name}sliced_wasserstein_{height}"] = distance
    return found


def measure_paths(mapping, synthesis, noise_of, latent_dim, run):
    """Return the perceptual path lengths of a generator with styles, a dict.

    mapping: z -> w; synthesis: [styles, *noise] -> images in [-1, 1]; both models that
    compute in float32, since differences are small. noise_of: (n, rng) -> noise.
    path_length_z, path_length_w: how much the judge's features change where a latent
    point moves towards another, spherically in Z, straight in W: the mean square of the
    change for a step of 1e-4 of the way, divided by the step's; of as many pairs as are
    measured, those below 1 % and above 99 % left out (Karras et al. 2018; there VGG's
    features). Empty without a judge.
    """
    if run.judge is None:
        return {}
    epsilon, rng = np.float32(1e-4), run.rng_of(4)
    n, n_batch = run.count_measured(), batch_size(*synthesis.output_shape[1:3])
    n_styles = synthesis.inputs[0].shape[1]
    distances = {"z": [], "w": []}
    for first in range(0, n, n_batch):
        n_now = min(n_batch, n - first)
        a, b = rng.standard_normal((2, n_now, latent_dim), dtype=np.float32)
        t = rng.random((n_now, 1), dtype=np.float32)
        noise = noise_of(n_now, rng)
        ends = mapping(a), mapping(b)
        for space, found in distances.items():
            features = []
            for place in (t, t + epsilon):
                if space == "z":
                    w = mapping(metrics.slerp(a, b, place))
                else:
                    w = ends[0] + place * (ends[1] - ends[0])
                styles = tf.repeat(w[:, tf.newaxis], n_styles, axis=1)
                images = run.inner(synthesis([styles, *map(tf.constant, noise)]))
                features.append(run.judge.features(images))
            squares = np.square(features[1] - features[0], dtype=np.float64)
            found.append(squares.sum(axis=1) / float(epsilon) ** 2)
    return {
        f"path_length_{space}": metrics.trimmed_mean(np.concatenate(found))
        for space, found in distances.items()
    }


def measure_styles(define_sample, run, shares=(0.3, 0.5, 0.7)):
    """Return what images are worth whose styles are drawn to the mean, a dict.

    define_sample: (psi=, noisy=) -> sample(n, rng, labels). Of as many images as are
    measured, for each psi: psi_<psi>_judge_fid, _sure and _entropy, as measures.csv has
    them for 1; without_noise_judge_fid: with noise of 0. Empty without a judge.
    """
    if run.judge is None:
        return {}

    def measure(**options):
        n = run.count_measured()
        images = define_sample(**options)(n, run.rng_of(1), run.classes(n))
        return name_measures(run, images)

    found = {}
    for psi in shares:
        row = measure(psi=psi)
        names = ("judge_fid", "sure", "entropy")
        found |= {f"psi_{psi:g}_{name}": row[name] for name in names}
    found["without_noise_judge_fid"] = measure(noisy=False)["judge_fid"]
    return found


def measure_mixing(to_w, paint, mix, noise_of, latent_dim, run):
    """Return what coarse and fine styles control, a dict.

    to_w: z -> w; paint: (styles, noise) -> uint8 images; mix: (w of coarse layers, w of
    fine layers, how many are coarse, of how many) -> styles. noise_of: (n, rng) ->
    noise, the same for a pair and its mixture. Of 2,000 pairs at the most, for mixtures
    whose coarse styles reach up to so many pixels: mix_<height>_coarse_class and
    _fine_class: percent whose class is that of the source of the coarse styles, and of
    the fine ones; of the bundled digits also _coarse_thickness and _fine_thickness, the
    rank correlation of the strokes' thickness with that of each source. Empty without a
    judge.
    """
    if run.judge is None:
        return {}
    # noise is larger than images
    n, rng = min(2000, max(2, run.count_measured() // 3)), run.rng_of(5)
    a, b = (
        to_w(rng.standard_normal((n, latent_dim), dtype=np.float32)) for _ in range(2)
    )
    noise = noise_of(n, rng)
    heights, n_styles = [part.shape[1] for part in noise[::2]], len(noise)

    def describe(n_coarse):
        images = run.inner(paint(np.array(mix(a, b, n_coarse, n_styles)), noise))
        return run.judge.answer(images)[1].argmax(axis=1), metrics.thickness(images)

    sources = {"coarse": describe(n_styles), "fine": describe(0)}
    found = {}
    for i, height in enumerate(heights[:-1], 1):
        classes, thickness = describe(2 * i)
        for name, (their_classes, their_thickness) in sources.items():
            begin = f"mix_{height}_{name}"
            found[f"{begin}_class"] = 100.0 * float(np.mean(classes == their_classes))
            if run.settings.bundled:
                correlation = metrics.spearman(thickness, their_thickness)
                found[f"{begin}_thickness"] = correlation
    return found
