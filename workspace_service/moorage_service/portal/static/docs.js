/* global SwaggerUIBundle */
// No validator badge: it would send the description to another host.
(() => {
  const place = document.getElementById("swagger");
  SwaggerUIBundle({ domNode: place, url: place.dataset.spec, deepLinking: true, validatorUrl: null, docExpansion: "list", defaultModelsExpandDepth: 0 });
})();
