// dcmjs-dimse as a peer: an SCU and an SCP for the suite, since the library comes without programs.
//
//   node peer.js version
//   node peer.js echo  SETTINGS
//   node peer.js store SETTINGS FILE...
//   node peer.js scp   SETTINGS
//   node peer.js commit SETTINGS    asks for Storage Commitment and listens for the report
//
// SETTINGS is one JSON object: host, port, calling, called, pdu, ops, directory, tls, listen, instances. What happens is printed as one
// JSON object a line.
'use strict';
const fs = require('fs');
const path = require('path');
const { Writable } = require('stream');
const dimse = require('dcmjs-dimse');
const { Client, Dataset, Implementation, Scp, Server } = dimse;
const { CEchoRequest, CStoreRequest, NActionRequest } = dimse.requests;
const { CEchoResponse, CStoreResponse, NEventReportResponse } = dimse.responses;
const { PresentationContextResult, SopClass, Status } = dimse.constants;

const say = (what) => fs.writeSync(1, JSON.stringify(what) + '\n');
dimse.log.level = 'warn';
dimse.log.transports = [];

function security(tls) {
  if (!tls) return undefined;
  const read = (file) => (file ? fs.readFileSync(file) : undefined);
  return {
    key: read(tls.key),
    cert: read(tls.cert),
    ca: read(tls.ca),
    requestCert: true,
    rejectUnauthorized: true,
    minVersion: tls.version,
    maxVersion: tls.version,
  };
}

// Sends requests on one association and says how each was answered, and how the association ended.
function send(settings, requests) {
  if (settings.pdu) Implementation.setMaxPduLength(settings.pdu);
  const client = new Client();
  for (const [name, request] of requests) {
    request.on('response', (response) => say({ answer: name, status: response.getStatus() }));
    client.addRequest(request);
  }
  client.on('associationAccepted', () => say({ association: 'accepted' }));
  client.on('associationRejected', (why) => say({ association: 'rejected', ...why }));
  client.on('associationReleased', () => say({ association: 'released' }));
  client.on('networkError', (error) => say({ association: 'failed', error: String(error) }));
  const ops = settings.ops;
  client.send(settings.host, settings.port, settings.calling, settings.called, {
    asyncOps: ops ? { maxAsyncOpsInvoked: ops, maxAsyncOpsPerformed: ops } : undefined,
    securityOptions: security(settings.tls),
  });
}

function store(settings, files) {
  const requests = files.map((file) => {
    const request = new CStoreRequest(file);
    return [request.getAffectedSopInstanceUid(), request];
  });
  send(settings, requests);
}

// Writes the data set to a file as its bytes arrive, after the file's head that the harness has made nothing of: the
// name says instance, class and transfer syntax.
class ToFile extends Writable {
  constructor(directory, request, context) {
    super();
    const parts = [request.getAffectedSopInstanceUid(), request.getAffectedSopClassUid(), context.getAcceptedTransferSyntaxUid()];
    this.kept = path.join(directory, parts.join('_') + '.dataset');
    this.file = fs.openSync(this.kept + '.part', 'w');
  }

  _write(piece, _encoding, done) {
    fs.write(this.file, piece, 0, piece.length, null, (error) => done(error));
  }

  _final(done) {
    fs.closeSync(this.file);
    fs.rename(this.kept + '.part', this.kept, done);
  }
}

function scp(settings) {
  if (settings.pdu) Implementation.setMaxPduLength(settings.pdu);

  class Receiver extends Scp {
    associationRequested(association) {
      association.setMaxPduLength(settings.pdu || Implementation.getMaxPduLength());
      for (const { id } of association.getPresentationContexts()) {
        const context = association.getPresentationContext(id);
        const abstract = context.getAbstractSyntaxUid();
        if (abstract === SopClass.Verification || !abstract.startsWith('1.2.840.10008.5.1.4.1.2.')) {
          context.setResult(PresentationContextResult.Accept, context.getTransferSyntaxUids()[0]);
        } else {
          context.setResult(PresentationContextResult.RejectAbstractSyntaxNotSupported);
        }
      }
      this.sendAssociationAccept();
    }

    createStoreWritableStream(context, request) {
      return new ToFile(settings.directory, request, context);
    }

    createDatasetFromStoreWritableStream(writable, context, callback) {
      callback(new Dataset({}, context.getAcceptedTransferSyntaxUid()));
    }

    cEchoRequest(request, callback) {
      const response = CEchoResponse.fromRequest(request);
      response.setStatus(Status.Success);
      callback(response);
    }

    cStoreRequest(request, callback) {
      const response = CStoreResponse.fromRequest(request);
      response.setStatus(Status.Success);
      callback(response);
    }

    associationReleaseRequested() {
      this.sendAssociationReleaseResponse();
    }
  }

  const server = new Server(Receiver);
  server.on('networkError', (error) => say({ association: 'failed', error: String(error) }));
  server.listen(settings.port, { securityOptions: security(settings.tls) });
}

// One N-ACTION, then N-EVENT-REPORTs on associations that the other side opens, until somebody ends this process.
function commit(settings) {
  class Listener extends Scp {
    associationRequested(association) {
      for (const { id } of association.getPresentationContexts()) {
        const context = association.getPresentationContext(id);
        context.setResult(PresentationContextResult.Accept, context.getTransferSyntaxUids()[0]);
      }
      this.sendAssociationAccept();
    }

    nEventReportRequest(request, callback) {
      say({ report: request.getEventTypeId(), ...request.getDataset().getElements() });
      const response = NEventReportResponse.fromRequest(request);
      response.setStatus(Status.Success);
      callback(response);
    }

    associationReleaseRequested() {
      this.sendAssociationReleaseResponse();
      say({ association: 'released' });
    }
  }

  const server = new Server(Listener);
  server.on('networkError', (error) => say({ association: 'failed', error: String(error) }));
  server.listen(settings.listen);
  const request = new NActionRequest(SopClass.StorageCommitmentPushModel, '1.2.840.10008.1.20.1.1', 1);
  request.setDataset(
    new Dataset({
      TransactionUID: Dataset.generateDerivedUid(),
      ReferencedSOPSequence: settings.instances.map(([ReferencedSOPClassUID, ReferencedSOPInstanceUID]) => ({
        ReferencedSOPClassUID,
        ReferencedSOPInstanceUID,
      })),
    })
  );
  send(settings, [['commit', request]]);
}

const [command, given, ...files] = process.argv.slice(2);
const settings = given ? JSON.parse(given) : {};
if (command === 'version') say({ 'dcmjs-dimse': dimse.version, node: process.version });
else if (command === 'echo') send(settings, [['echo', new CEchoRequest()]]);
else if (command === 'store') store(settings, files);
else if (command === 'scp') scp(settings);
else if (command === 'commit') commit(settings);
else throw new Error(`no command ${command}`);
