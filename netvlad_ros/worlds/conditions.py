# SPDX-License-Identifier: MIT
"""When and how a picture is taken: time of day, weather, season, who is about, and the camera's state."""

from dataclasses import dataclass, replace

import numpy as np

from netvlad_ros.errors import WorldError

SEASONS = ("spring", "summer", "autumn", "winter")
WEATHERS = ("clear", "cloudy", "rain", "fog", "snowfall")


@dataclass(frozen=True)
class Conditions:
    """One visit to a world.

    time_h:      0 to 24; the sun rises at 6 and sets at 18.
    snow:        whether snow lies.
    lamps_on:    share of the lamps inside that are switched on, 0 to 1.
    sun_azimuth_rad: where the sun is at noon, counter-clockwise from x.
    visit:       people and cars are others on each visit; so are noise and lit windows.
    fullness:    share of the places for people and cars that are taken, 0 to 1.
    exposure_stops: added to the automatic exposure; 0 leaves it.
    noise:       standard deviation at mid-grey, of 0..1.
    blur_px:     standard deviation of the lens's blur, at 320 pixels of width.
    motion_px:   length of the motion blur, at 320 pixels of width.
    vignetting:  loss of light in the corners, 0 to 1.
    warmth:      white balance, -1 bluish to 1 reddish.
    jpeg:        quality of the compression, 1 to 100; 0 for none.
    saturation, contrast: 1 leaves them.
    """

    time_h: float = 12.0
    weather: str = "clear"
    season: str = "summer"
    snow: bool = False
    lamps_on: float = 1.0
    sun_azimuth_rad: float = 0.6
    visit: int = 0
    fullness: float = 0.5
    exposure_stops: float = 0.0
    noise: float = 0.01
    blur_px: float = 0.4
    motion_px: float = 0.0
    vignetting: float = 0.15
    warmth: float = 0.0
    jpeg: int = 0
    saturation: float = 1.0
    contrast: float = 1.0

    def __post_init__(self) -> None:
        for name, value, known in (
            ("weather", self.weather, WEATHERS),
            ("season", self.season, SEASONS),
        ):
            if value not in known:
                raise WorldError(f"{name}: expected one of {', '.join(known)}, got {value!r}.")

    @property
    def sun_height(self) -> float:
        """Sine of the sun's elevation; negative at night."""
        return float(np.sin((self.time_h - 6.0) / 12.0 * np.pi)) * 0.9

    @property
    def is_dark(self) -> bool:
        """Whether street lamps are on."""
        return self.sun_height < 0.1

    @property
    def visibility_m(self) -> float:
        """The distance at which two thirds of the contrast are gone."""
        return {"fog": 22.0, "rain": 90.0, "snowfall": 55.0, "cloudy": 300.0}.get(
            self.weather, 500.0
        )


NAMED = {
    "day": Conditions(13.0),
    "morning": Conditions(8.0, sun_azimuth_rad=2.0, warmth=0.2, visit=1),
    "evening": Conditions(17.0, season="autumn", sun_azimuth_rad=-0.9, warmth=0.4, visit=2),
    "dusk": Conditions(18.4, "cloudy", "autumn", noise=0.02, visit=3),
    "night": Conditions(23.0, noise=0.03, visit=4, fullness=0.2, motion_px=1.0),
    "cloudy": Conditions(12.0, "cloudy", "spring", visit=5),
    "fog": Conditions(10.0, "fog", "autumn", visit=6),
    "rain": Conditions(15.0, "rain", "autumn", visit=7, blur_px=0.7),
    "snow": Conditions(12.0, "cloudy", "winter", snow=True, visit=8),
    "snowfall": Conditions(14.0, "snowfall", "winter", snow=True, visit=9),
    "winter": Conditions(11.0, "clear", "winter", visit=10, warmth=-0.2),
    "autumn": Conditions(14.0, "cloudy", "autumn", visit=11),
}


def named(name: str, visit: int = 0) -> Conditions:
    """The conditions of this name; another visit meets other people. Raises WorldError if unknown."""
    if name not in NAMED:
        raise WorldError(f"conditions: expected one of {', '.join(NAMED)}, got {name!r}.")
    found = NAMED[name]
    return replace(found, visit=found.visit + 100 * visit)


def random_conditions(rng: np.random.Generator) -> Conditions:
    """Any time, weather and camera; half of the visits are in broad daylight."""
    dark = rng.random() < 0.25
    time_h = rng.uniform(18.0, 30.0) % 24 if dark else rng.uniform(6.8, 17.5)
    season = str(rng.choice(SEASONS))
    weather = str(rng.choice(WEATHERS[:4], p=[0.45, 0.33, 0.13, 0.09]))
    snow = season == "winter" and rng.random() < 0.5
    if snow and rng.random() < 0.3:
        weather = "snowfall"
    return Conditions(
        time_h=time_h,
        weather=weather,
        season=season,
        snow=snow,
        lamps_on=float(rng.choice([0.0, 0.5, 1.0, 1.0])),
        sun_azimuth_rad=rng.uniform(0, 2 * np.pi),
        visit=int(rng.integers(1 << 30)),
        fullness=rng.uniform(0, 0.9),
        exposure_stops=rng.normal(0, 0.35),
        noise=float(rng.exponential(0.015)) + (0.02 if dark else 0.003),
        blur_px=abs(rng.normal(0, 0.6)),
        motion_px=rng.uniform(1, 5) if rng.random() < 0.25 else 0.0,
        vignetting=rng.uniform(0, 0.4),
        warmth=float(np.clip(rng.normal(0, 0.4), -1, 1)),
        jpeg=int(rng.integers(30, 95)) if rng.random() < 0.35 else 0,
        saturation=rng.uniform(0.5, 1.3) * (rng.random() > 0.1),
        contrast=rng.uniform(0.75, 1.25),
    )
