import { defineConfig } from 'vite';

export default defineConfig({
  // The server sends `Content-Security-Policy: default-src 'self'`: nothing is inlined.
  build: { target: 'es2022', assetsInlineLimit: 0, modulePreload: { polyfill: false }, chunkSizeWarningLimit: 300 },
  server: {
    proxy: {
      // `npm run dev` shows the data of a server that runs; that one refuses requests that come from other pages.
      '/api': {
        target: process.env['HITSCOPE_URL'] ?? 'http://127.0.0.1:7460',
        changeOrigin: true,
        configure: (proxy) => proxy.on('proxyReq', (request) => request.removeHeader('origin')),
      },
    },
  },
});
