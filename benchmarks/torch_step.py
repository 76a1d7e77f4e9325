"""The training step of sgan_mnist.py in PyTorch, for step_time.py."""

import torch
from torch import nn
from torch.nn import functional as F


def define_discriminator():
    """Return the network of the stacked design, up to its ten logits."""
    blocks = []
    for n_channels in (1, 128, 128):
        # Keras pads an even size on its far side only; one pixel on each side gives
        # the same sizes and the same multiply-adds
        blocks += [
            nn.Conv2d(n_channels, 128, 3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
    return nn.Sequential(
        *blocks, nn.Flatten(), nn.Dropout(0.4), nn.Linear(128 * 4 * 4, 10)
    )


def define_generator(latent_dim):
    blocks = []
    for _ in range(2):
        blocks += [
            nn.ConvTranspose2d(128, 128, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
    return nn.Sequential(
        nn.Linear(latent_dim, 128 * 7 * 7),
        nn.LeakyReLU(0.2),
        nn.Unflatten(1, (128, 7, 7)),
        *blocks,
        nn.Conv2d(128, 1, 7, padding=3),
        nn.Tanh(),
    )


def adam(network):
    # epsilon is Keras's
    return torch.optim.Adam(network.parameters(), 0.0002, (0.5, 0.999), 1e-7)


def update(network, optimizer, loss):
    optimizer.zero_grad()
    loss.backward(inputs=list(network.parameters()))
    optimizer.step()


def define_step(dataset, supervised, latent_dim, n_batch):
    """Return step(), which makes one training step.

    dataset, supervised: [X, y], X float32 (n, 28, 28, 1) in [-1, 1].
    """
    half_batch = n_batch // 2
    X = torch.from_numpy(dataset[0]).permute(0, 3, 1, 2)
    X_sup = torch.from_numpy(supervised[0]).permute(0, 3, 1, 2)
    y_sup = torch.from_numpy(supervised[1])
    d = define_discriminator().to(memory_format=torch.channels_last)
    g = define_generator(latent_dim).to(memory_format=torch.channels_last)
    c_optimizer, d_optimizer, g_optimizer = adam(d), adam(d), adam(g)

    def unsupervised_loss(images, target):
        logits = torch.logsumexp(d(images), dim=1)
        targets = torch.full_like(logits, target)
        return F.binary_cross_entropy_with_logits(logits, targets)

    def step():
        chosen = torch.randint(len(X_sup), (half_batch,))
        c_loss = F.cross_entropy(d(X_sup[chosen]), y_sup[chosen])
        update(d, c_optimizer, c_loss)

        chosen = torch.randint(len(X), (half_batch,))
        update(d, d_optimizer, unsupervised_loss(X[chosen], 1.0))

        with torch.no_grad():
            X_fake = g(torch.randn(half_batch, latent_dim))
        update(d, d_optimizer, unsupervised_loss(X_fake, 0.0))

        X_fake = g(torch.randn(n_batch, latent_dim))
        update(g, g_optimizer, unsupervised_loss(X_fake, 1.0))

    return step
