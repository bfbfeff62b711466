"""TensorFlow's fastest: scaling, network and error in one traced and concrete ``tf.function``."""

from pathlib import Path
from typing import Any

from . import Peer, scaler_of


def convert(made: Any) -> None:
    """It runs the model that Keras has saved."""


def load(folder: Path, threads: int) -> Peer:
    import keras
    import tensorflow as tf

    offset, gain = scaler_of(folder)
    model = keras.saving.load_model(folder / "autoencoder.keras", compile=False)
    encoder, decoder = model.get_layer("encoder"), model.get_layer("decoder")
    signature = [tf.TensorSpec((None, *encoder.input_shape[1:]), tf.float32)]

    @tf.function(input_signature=signature)
    def score(rows: Any) -> Any:
        x = (rows - offset) * gain
        code = encoder(x, training=False)
        difference = tf.square(x - decoder(code, training=False))
        return code, tf.reduce_mean(tf.reshape(difference, (tf.shape(x)[0], -1)), axis=1)

    @tf.function(input_signature=signature)
    def embed(rows: Any) -> Any:
        return encoder((rows - offset) * gain, training=False)

    concrete, concrete_embed = score.get_concrete_function(), embed.get_concrete_function()

    def call(rows: Any) -> tuple[Any, Any]:
        embedding, error = concrete(tf.constant(rows))
        return embedding.numpy(), error.numpy()

    return Peer(call, lambda rows: concrete_embed(tf.constant(rows)).numpy())
