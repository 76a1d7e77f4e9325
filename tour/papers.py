"""Each GAN's paper and its own figure, and how recorded figures are written."""

import numpy as np

# script, in the tour's order: its paper, and its own figure: key, unit, what it is,
# published
TOUR = {
    "gan": (
        *("Goodfellow et al. 2014", "log_likelihood", "nats"),
        *("log-likelihood of test images, Parzen window", "225 ± 2"),
    ),
    "dcgan": (
        *("Radford et al. 2015", "feature_error", "%"),
        *("test error by d's features and 1,000 labels", ""),
    ),
    "cgan": (
        *("Mirza and Osindero 2014", "agreement", "%"),
        *("the class asked for is seen", ""),
    ),
    "infogan": (
        *("Chen et al. 2016", "code_error", "%"),
        *("test error of the code, matched with digits", "5"),
    ),
    "acgan": (
        *("Odena et al. 2016", "agreement", "%"),
        *("the class asked for is seen", ""),
    ),
    "stackgan": (
        *("Zhang et al. 2016", "asked_digit", "%"),
        *("the digit of an unseen caption is seen", ""),
    ),
    "context_encoder": (
        *("Pathak et al. 2016", "psnr", "dB"),
        *("PSNR in the holes of test images", ""),
    ),
    "pix2pix": (
        *("Isola et al. 2016", "agreement", "%"),
        *("the digit is seen in what is made of its edges", ""),
    ),
    "wgan": (
        *("Arjovsky et al. 2017", "estimate_correlation", ""),
        *("correlation of estimate and judge-FID", ""),
    ),
    "wgan_gp": (
        *("Gulrajani et al. 2017", "estimate_correlation", ""),
        *("correlation of estimate and judge-FID", ""),
    ),
    "cyclegan": (
        *("Zhu et al. 2017", "accuracy", "%"),
        *("the digit is seen in what is made of its outline", ""),
    ),
    "progan": (
        *("Karras et al. 2017", "judge_fid", ""),
        *("judge-FID", ""),
    ),
    "stylegan": (
        *("Karras et al. 2018", "path_length_w", ""),
        *("perceptual path length in W, by the judge", ""),
    ),
    "biggan": (
        *("Brock et al. 2018", "agreement", "%"),
        *("the class asked for is seen", ""),
    ),
}


def spread(runs, name):
    """Return mean ± standard deviation of a figure of these runs, as a text."""
    values = [run[name] for run in runs]
    digits = 3 if max(map(abs, values)) < 1 else 2 if max(map(abs, values)) < 10 else 1
    sd = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{sd}"


def quickest_minutes(runs):
    """Return the minutes of the quickest of these runs, as a text.

    Others may have had other work beside them, which makes a run slower and no worse.
    """
    return f"{min(run['seconds'] for run in runs) / 60:.0f}"
