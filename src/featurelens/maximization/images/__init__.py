"""Images as functions of the parameters that are optimized: pixels, Fourier coefficients, phases, latents."""
