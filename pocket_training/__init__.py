"""Training of the pocket pair, one module a stage: `python -m pocket_training --help`.

    vae ─▶ text ─▶ denoiser ─▶ eyes ─▶ critic ─▶ drawings ─▶ critic ─▶ export

Every stage is seeded, logs a line of JSON at intervals, and goes on from its last checkpoint when
it is started again. `all` is every stage in order. Truth needs scipy, which comes with `gcr[dev]`.
"""
