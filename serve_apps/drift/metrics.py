"""What is counted of photos. Prometheus sees each name with ``ray_`` in front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ray.util.metrics import Counter, Gauge, Histogram

from cutray.evaluation.drift import BOUNDS, Difference

_LEVELS = {"few": 0, "same": 0, "shifted": 1, "drifted": 2}


class DriftMetrics:
    """Histograms of photos, and how much they differ from the reference."""

    def __init__(self) -> None:
        """Register the names."""
        bounds = {name: list(each) for name, each in BOUNDS.items()}
        histograms = (
            Histogram("cutray_drift_brightness", "Mean luma of photos, 0 to 1.", bounds["brightness"], ("model",)),
            Histogram(
                "cutray_drift_sharpness",
                "Variance of the Laplacian of photos at 256 px.",
                bounds["sharpness"],
                ("model",),
            ),
            Histogram("cutray_drift_megapixels", "Millions of pixels of photos.", bounds["megapixels"], ("model",)),
            Histogram("cutray_drift_confidence", "Confidence of masks, 0 to 1.", bounds["confidence"], ("model",)),
            Histogram("cutray_drift_area", "Share of the photo that the subject covers.", bounds["area"], ("model",)),
            Histogram(
                "cutray_drift_no_subject", "1 for photos without a subject, else 0.", bounds["no_subject"], ("model",)
            ),
            Histogram(
                "cutray_drift_fine_detail", "1 for photos with hair or fur, else 0.", bounds["fine_detail"], ("model",)
            ),
            Histogram(
                "cutray_drift_transparency", "1 for photos with glass, else 0.", bounds["transparency"], ("model",)
            ),
            Histogram(
                "cutray_drift_reflectivity", "1 for photos with metal, else 0.", bounds["reflectivity"], ("model",)
            ),
            Histogram("cutray_drift_texture", "1 for photos with lace or mesh, else 0.", bounds["texture"], ("model",)),
        )
        self._histograms = dict(zip(BOUNDS, histograms, strict=True))
        self._psi = Gauge(
            "cutray_drift_psi", "Population stability index against the training data.", ("feature", "model")
        )
        self._verdict = Gauge("cutray_drift_verdict", "0 as in training, 1 shifted, 2 drifted.", ("feature", "model"))
        self._shown: set[tuple[str, str]] = set()  # feature and model
        self._skipped = Counter("cutray_drift_skipped_total", "Photos that were not looked at: too many, or an error.")
        self._samples = Gauge("cutray_drift_samples", "Photos in the folder of samples.")

    def photo(self, values: Mapping[str, float], model: str) -> None:
        """Count one photo."""
        for name, value in values.items():
            self._histograms[name].observe(value, {"model": model})

    def differences(self, found: Mapping[str, Sequence[Difference]]) -> None:
        """Show how the latest photos of each model differ; has to be repeated, for Ray forgets a gauge.

        Args:
            found: By the name of the model; what was shown of others before becomes 0 once.
        """
        shown = {(one.feature, model): one for model, each in found.items() for one in each}
        for feature, model in self._shown | shown.keys():
            one, labels = shown.get((feature, model)), {"feature": feature, "model": model}
            self._psi.set(one.psi if one else 0.0, labels)
            self._verdict.set(_LEVELS[one.verdict] if one else 0, labels)
        self._shown = set(shown)

    def skipped(self) -> None:
        """Count a photo that was not looked at."""
        self._skipped.inc()

    def samples(self, number: int) -> None:
        """Show how many photos are kept."""
        self._samples.set(number)
